#!/bin/sh
# Puts the tinyfleet agent on this machine, brings it up to date, or removes it.
#
#   curl -fsSL https://FLEET/install.sh | sudo TINYFLEET_JOIN_TOKEN_FILE=join-token sh
#
# The control plane that serves this script fills in its own address. Options go after `sh -s --`; --help lists them.
# All of it is one block: a download that was cut off does nothing, for the shell runs a block when it has its end.
{
set -eu
umask 022
PATH=$PATH:/usr/sbin:/sbin

SERVER='@SERVER@'
VERSION='@VERSION@'
CA='@CA@'
SIGNER='@SIGNER@'

case $SERVER in @*) SERVER= ;; esac
case $VERSION in @*) VERSION= ;; esac
case $CA in @*) CA= ;; esac
case $SIGNER in @*) SIGNER= ;; esac

R=${TINYFLEET_INSTALL_ROOT:-} # a folder in place of /, for trying it out
HOME_DIR=$R/opt/tinyfleet
ETC=$R/etc/tinyfleet
STATE=$R/var/lib/tinyfleet
ROOT_STATE=$R/var/lib/tinyfleet-root
UNITS=$R/etc/systemd/system
PART=$HOME_DIR/root/tinyfleet-root.pyz
GROUP=/sys/fs/cgroup/system.slice/tinyfleet-agent.service
AGENT_USER=tinyfleet
ACTION=install START=1 DRY='' OFFLINE='' NAME='' CA_FILE='' PRIVILEGED='' LOGINS='' PURGE='' CHANGED='' WORK=''

say() { printf 'tinyfleet: %s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
# shellcheck disable=SC2317 # called by the trap
tidy() { [ -z "$WORK" ] || rm -rf "$WORK"; }

usage() {
  cat >&2 <<'USAGE'
options:
  --server URL      the control plane; the script that it serves knows it
  --version V       another release than the control plane wants
  --name NAME       the node's name; else the host's
  --ca-file FILE    the only authority that may vouch for the server, in PEM
  --offline DIR     a release in a folder, instead of fetching it
  --privileged      the agent runs as root: each attempt gets a user of its own (see docs/walls.md)
  --logins          people can be let in by SSH (docs/access_ssh.md), from now on
  --no-start        put everything in place, start nothing
  --dry-run         fetch and check, and say what would be done
  --uninstall       remove the agent; the node's identity and settings stay
  --purge           with --uninstall: those too
environment:
  TINYFLEET_JOIN_TOKEN_FILE, or TINYFLEET_JOIN_TOKEN: with which the node joins, the first time
  https_proxy, no_proxy: used here, and by the agent from then on
USAGE
}

value() { # option given...: the option's value has to follow it
  [ "$2" -gt 1 ] || die "$1 needs a value"
}

options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --server) value "$1" $# && SERVER=${2%/} && shift ;;
      --version) value "$1" $# && VERSION=$2 && shift ;;
      --name) value "$1" $# && NAME=$2 && shift ;;
      --ca-file) value "$1" $# && CA_FILE=$2 && shift ;;
      --offline) value "$1" $# && OFFLINE=$2 && shift ;;
      --privileged) PRIVILEGED=1 ;;
      --logins) LOGINS=1 ;;
      --no-start) START= ;;
      --dry-run) DRY=1 ;;
      --uninstall) ACTION=uninstall ;;
      --purge) PURGE=1 ;;
      --join-token*)
        die "a join token is no option: everybody on this machine could read it; set TINYFLEET_JOIN_TOKEN_FILE" ;;
      --help | -h)
        usage
        exit 0
        ;;
      *)
        usage
        die "unknown option $1"
        ;;
    esac
    shift
  done
}

# ------------------------------------------------------------------------------------ looking at the machine

need() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: $2"; }

find_python() { # sets PYTHON and LIST
  PYTHON=
  for each in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$each" -I -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      PYTHON=$(command -v "$each")
      break
    fi
  done
  [ -n "$PYTHON" ] || die "Python 3.11 or newer is missing: apt-get install python3"
  LIST=$("$PYTHON" -I -c 'import platform, sys; print("cp%d%d-%s.txt" % (*sys.version_info[:2], platform.machine()))')
}

before() { # name: what it was set to by the last run
  [ ! -s "$ETC/agent.env" ] || sed -n "s/^$1=//p" "$ETC/agent.env"
}

kept_settings() { # what was not said again stays as it was; https_proxy with nothing takes a proxy away
  [ -n "$NAME" ] || NAME=$(before TINYFLEET_NODE_NAME)
  PROXY=${https_proxy-${HTTPS_PROXY-$(before HTTPS_PROXY)}}
  DIRECT=${no_proxy-${NO_PROXY-$(before NO_PROXY)}}
  export https_proxy="$PROXY" no_proxy="$DIRECT"
}

check_settings() {
  case $SERVER in
    '') die "--server is needed: the URL of the control plane" ;;
    *[!]A-Za-z0-9.:/_[-]*) die "--server $SERVER is no URL" ;;
    https://?*) ;;
    http://127.0.0.1 | http://127.0.0.1[:/]* | http://localhost | http://localhost[:/]* | 'http://[::1]'*) ;;
    http://*) die "--server $SERVER would be spoken to in plain HTTP, which anybody on the way can change: use https://" ;;
    *) die "--server $SERVER is no https:// URL" ;;
  esac
  case $NAME in
    [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) die "--name $NAME: letters, digits, '.', '_' and '-'" ;;
  esac
  [ "${#NAME}" -le 63 ] || die "--name is longer than 63 letters"
  case $VERSION in *[!0-9a-z.]*) die "--version $VERSION is no version such as 1.2.0" ;; esac
  [ -z "$CA_FILE" ] || [ -r "$CA_FILE" ] || die "--ca-file $CA_FILE cannot be read"
  [ -n "$OFFLINE" ] || [ -n "$VERSION" ] || die "--version is needed: the control plane that served this script wants none yet"
  [ -n "$SIGNER" ] || die "this script knows no release key: take install.sh of a release, or of a control plane"
}

check_token() { # sets TOKEN to a file with it, or to nothing
  TOKEN=
  [ ! -e "$STATE/identity.json" ] || return 0
  if [ -n "${TINYFLEET_JOIN_TOKEN_FILE:-}" ]; then
    [ -s "$TINYFLEET_JOIN_TOKEN_FILE" ] || die "TINYFLEET_JOIN_TOKEN_FILE=$TINYFLEET_JOIN_TOKEN_FILE is no file with a token"
    cp "$TINYFLEET_JOIN_TOKEN_FILE" "$WORK/join-token"
    TOKEN=$WORK/join-token
  elif [ -n "${TINYFLEET_JOIN_TOKEN:-}" ]; then
    (umask 077 && printf '%s\n' "$TINYFLEET_JOIN_TOKEN" >"$WORK/join-token")
    TOKEN=$WORK/join-token
  elif [ ! -s "$ETC/join-token" ] && [ -n "$START" ]; then
    die "this node has not joined, and there is no join token: set TINYFLEET_JOIN_TOKEN_FILE to a file with one
  (tinyfleet join-token create --output join-token makes it), or give --no-start"
  fi
}

# ---------------------------------------------------------------------------------------- fetch and verify

fetch() { # name: a file of the release, into $WORK
  if [ -n "$OFFLINE" ]; then
    cp "$OFFLINE/$1" "$WORK/$1" || die "--offline $OFFLINE has no $1: is it a release?"
    return 0
  fi
  url=$SERVER/v1/releases/$VERSION/$1
  if command -v curl >/dev/null 2>&1; then
    set -- "$1" --proto '=https' --proto-redir '=https' --tlsv1.2
    case $url in http://*) set -- "$1" --proto '=http' --proto-redir '=http' ;; esac
    [ ! -s "$WORK/ca.pem" ] || set -- "$@" --cacert "$WORK/ca.pem"
    out=$WORK/$1
    shift
    curl -fsSL "$@" --max-redirs 3 --retry 3 --connect-timeout 15 --max-time 900 -o "$out" "$url" || die "$url could not be fetched"
  else
    "$PYTHON" -I -c '
import shutil, ssl, sys, urllib.request
url, out, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca or None) if url.startswith("https:") else None
with urllib.request.urlopen(url, timeout=60, context=context) as source, open(out, "wb") as file:
    shutil.copyfileobj(source, file)
' "$url" "$WORK/$1" "$([ ! -s "$WORK/ca.pem" ] || echo "$WORK/ca.pem")" || die "$url could not be fetched"
  fi
}

vouched() { # name: what was fetched has to be what the signed sums say
  sum=$(awk -v name="$1" '$2 == name { print $1 }' "$WORK/SHA256SUMS")
  [ -n "$sum" ] || return 1
  (cd "$WORK" && printf '%s  %s\n' "$sum" "$1" | sha256sum -c - >/dev/null 2>&1) || die "$1 is not what was signed: nothing was installed"
}

fetch_release() {
  printf 'release@tinyfleet namespaces="tinyfleet-release" %s\n' "$SIGNER" >"$WORK/signers"
  if [ -s "$ETC/release-signers" ] && ! cmp -s "$ETC/release-signers" "$WORK/signers"; then
    die "this machine takes releases of another key than this script's ($ETC/release-signers): nothing was changed.
  If the release key was changed on purpose, remove that file first"
  fi
  fetch SHA256SUMS
  fetch SHA256SUMS.sig
  ssh-keygen -Y verify -f "$WORK/signers" -I release@tinyfleet -n tinyfleet-release -s "$WORK/SHA256SUMS.sig" \
    <"$WORK/SHA256SUMS" >/dev/null 2>&1 || die "the signature of SHA256SUMS is not good: nothing was installed"
  grep -q "  $LIST\$" "$WORK/SHA256SUMS" ||
    die "this release is not for $LIST (Python and machine); it is for $(awk '/  cp[^ ]*[.]txt$/ { printf "%s ", $2 }' "$WORK/SHA256SUMS")"
  for each in VERSION "$LIST" tinyfleet-root.pyz tinyfleet-agent.service tinyfleet-root.service; do
    fetch "$each"
    vouched "$each" || die "SHA256SUMS does not vouch for $each: nothing was installed"
  done
  while read -r each _; do
    fetch "$each"
    vouched "$each" || die "SHA256SUMS does not vouch for $each: nothing was installed"
  done <"$WORK/$LIST"
  NEW=$(cat "$WORK/VERSION")
  [ -z "$VERSION" ] || [ "$VERSION" = "$NEW" ] || die "the release is $NEW, not $VERSION: nothing was installed"
}

# ------------------------------------------------------------------------------------------ putting in place

put() { # mode file source: in one step, and only what is different
  if [ -f "$2" ] && cmp -s "$2" "$3" && [ "$(stat -c %a "$2")" = "$1" ]; then return 0; fi
  CHANGED=1
  if [ -n "$DRY" ]; then
    say "would write $2"
    return 0
  fi
  mkdir -p "${2%/*}"
  rm -f "$2.new"
  (umask 077 && cp "$3" "$2.new") # nobody reads a token before its mode is right
  chmod "$1" "$2.new"
  mv -f "$2.new" "$2"
}

act() { # command...: unless this is a dry run
  if [ -n "$DRY" ]; then say "would run: $*"; else "$@"; fi
}

own() { # file...: the agent's from now on
  [ -n "$R" ] || [ -n "$DRY" ] || chown "$AGENT_USER:$AGENT_USER" "$@"
}

make_user() {
  [ -z "$R" ] || return 0
  if ! id -u "$AGENT_USER" >/dev/null 2>&1; then
    CHANGED=1
    if command -v useradd >/dev/null 2>&1; then
      act useradd --system --user-group --no-create-home --home-dir /var/lib/tinyfleet --shell /usr/sbin/nologin "$AGENT_USER"
    else
      act addgroup -S "$AGENT_USER"
      act adduser -S -D -H -h /var/lib/tinyfleet -s /sbin/nologin -G "$AGENT_USER" "$AGENT_USER"
    fi
  fi
  for each in render video; do # whose the devices of GPUs are
    if grep -q "^$each:" /etc/group && ! id -nG "$AGENT_USER" 2>/dev/null | grep -qw "$each"; then
      act usermod -aG "$each" "$AGENT_USER"
    fi
  done
}

settings() {
  {
    printf '# Written by the installer at each run. Settings of your own go to local.env beside it.\n'
    printf 'TINYFLEET_URL=%s\n' "$SERVER"
    [ -z "$NAME" ] || printf 'TINYFLEET_NODE_NAME=%s\n' "$NAME"
    if [ -s "$WORK/ca.pem" ]; then printf 'TINYFLEET_CA_FILE=/etc/tinyfleet/ca.pem\n'; fi
    [ -z "$PROXY" ] || printf 'HTTPS_PROXY=%s\n' "$PROXY"
    [ -z "$DIRECT" ] || printf 'NO_PROXY=%s\n' "$DIRECT"
  } >"$WORK/agent.env"
  put 644 "$ETC/agent.env" "$WORK/agent.env"
  [ ! -s "$WORK/ca.pem" ] || put 644 "$ETC/ca.pem" "$WORK/ca.pem"
  if [ -n "$TOKEN" ]; then
    put 600 "$ETC/join-token" "$TOKEN"
    own "$ETC/join-token"
  fi
}

units() {
  sed "s#/usr/bin/python3#$PYTHON#" "$WORK/tinyfleet-root.service" >"$WORK/root.service"
  put 644 "$UNITS/tinyfleet-root.service" "$WORK/root.service"
  put 644 "$UNITS/tinyfleet-agent.service" "$WORK/tinyfleet-agent.service"
  printf '[Service]\nUser=root\nGroup=root\nCapabilityBoundingSet=~\n' >"$WORK/privileged.conf"
  drop_in "$PRIVILEGED" tinyfleet-agent.service.d/privileged.conf
}

logins() { # root's part turns them on, as `tinyfleet node logins on` does; without the option they stay as they are
  [ -n "$LOGINS" ] || return 0
  if [ -n "$DRY" ]; then
    say "would let the fleet give people logins here"
    return 0
  fi
  told=$(roots_part logins on) || die "people's logins were not turned on; the rest is in place"
  case $told in *'[]'*) ;; *) CHANGED=1 ;; esac
}

no_attempts() { # they outlive an agent that is restarted, and not one that is removed
  [ -e "$GROUP/cgroup.kill" ] || return 0
  if [ -n "$DRY" ]; then
    say "would end the attempts that run here"
    return 0
  fi
  echo 1 >"$GROUP/cgroup.kill"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    grep -qs '^populated 1' "$GROUP/cgroup.events" || return 0
    sleep 1
  done
  say "some processes of attempts do not end: see $GROUP/cgroup.procs"
}

no_logins() { # everybody who was let in is out, before what would end them goes
  [ -e "$R/etc/ssh/tinyfleet" ] || return 0
  find_python
  [ -s "$HOME_DIR/root/tinyfleet-root.pyz" ] ||
    die "people may log in here, and root's part, which ends that, is gone: run the installer again, then --uninstall"
  if [ -n "$DRY" ]; then
    say "would end everybody's logins"
    return 0
  fi
  roots_part logins off >/dev/null || die "people's logins could not be ended: the agent is stopped, nothing was removed"
  rm -rf "$R/etc/ssh/tinyfleet"
}

roots_part() { # arguments...
  set -- -I "$PART" ${R:+--root "$R"} "$@"
  "$PYTHON" "$@"
}

drop_in() { # wanted file: the one of that name in $WORK, if it is wanted
  if [ -n "$1" ]; then
    put 644 "$UNITS/$2" "$WORK/${2##*/}"
  elif [ -e "$UNITS/$2" ]; then
    CHANGED=1
    act rm -f "$UNITS/$2"
  fi
}

no_downgrade() { # sets OLD to what runs; an older version is refused before anything is changed
  OLD=$(cat "$HOME_DIR/current/VERSION" 2>/dev/null || :)
  [ -n "$OLD" ] || return 0
  "$PYTHON" -I -c '
import sys
sys.path.insert(0, sys.argv[1])
from fleet.agents.root_verbs import order
sys.exit(order(sys.argv[2]) < order(sys.argv[3]))
' "$WORK/tinyfleet-root.pyz" "$NEW" "$OLD" ||
    die "$NEW is older than $OLD, which runs: a downgrade is refused; nothing was changed (what runs, again: --version $OLD)"
}

slot() { # the version into the slot that does not run; what runs goes on until it is restarted
  [ "$OLD" != "$NEW" ] || return 0
  CHANGED=1
  if [ -n "$DRY" ]; then
    say "would install $NEW${OLD:+ beside $OLD}"
    return 0
  fi
  PART=$WORK/tinyfleet-root.pyz
  roots_part install --from "$WORK" >/dev/null || die "nothing was changed in what runs"
  PART=$HOME_DIR/root/tinyfleet-root.pyz
}

start() {
  [ -z "$R" ] || return 0
  if [ ! -d /run/systemd/system ]; then
    say "systemd does not run here: start $HOME_DIR/root/tinyfleet-root.pyz and the agent as the units in $UNITS say"
    return 0
  fi
  act systemctl daemon-reload
  act systemctl --quiet enable tinyfleet-root.service tinyfleet-agent.service
  [ -n "$START" ] || return 0
  if [ -n "$CHANGED" ]; then
    act systemctl restart tinyfleet-root.service
    act systemctl restart tinyfleet-agent.service
  else
    act systemctl start tinyfleet-root.service tinyfleet-agent.service
  fi
}

# ------------------------------------------------------------------------------------------------- two acts

do_install() {
  [ "$(uname -s)" = Linux ] || die "only Linux is supported; this is $(uname -s)"
  [ "$(id -u)" = 0 ] || [ -n "$R" ] || die "run it as root: | sudo sh"
  need ssh-keygen "apt-get install openssh-client"
  need sha256sum "apt-get install coreutils"
  need awk "apt-get install mawk"
  [ -z "$LOGINS" ] || [ -n "$R" ] || need sshd "apt-get install openssh-server"
  need mktemp "apt-get install coreutils"
  check_settings
  kept_settings
  find_python
  WORK=$(mktemp -d)
  trap tidy EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 141' PIPE
  trap 'exit 143' TERM
  if [ -n "$CA_FILE" ]; then
    cp "$CA_FILE" "$WORK/ca.pem"
  elif [ -n "$CA" ]; then
    printf '%s\n' "$CA" >"$WORK/ca.pem"
  elif [ -n "$(before TINYFLEET_CA_FILE)" ]; then
    cp "$ETC/ca.pem" "$WORK/ca.pem"
  fi
  check_token
  fetch_release
  no_downgrade
  make_user
  if [ -z "$DRY" ]; then
    mkdir -p "$STATE" "$HOME_DIR/root" "$ETC"
    chmod 711 "$STATE"
    own "$STATE"
  fi
  put 644 "$ETC/release-signers" "$WORK/signers"
  slot
  put 644 "$HOME_DIR/root/tinyfleet-root.pyz" "$WORK/tinyfleet-root.pyz"
  settings
  units
  logins
  start
  command -v bwrap >/dev/null 2>&1 || say "without bubblewrap the node is trusted with less: apt-get install bubblewrap"
  if [ -n "$DRY" ]; then
    say "nothing was changed"
  elif [ -n "$CHANGED" ]; then
    say "installed $NEW${OLD:+, in place of $OLD}"
  else
    say "$NEW is installed already: nothing to change"
  fi
}

do_uninstall() {
  [ "$(id -u)" = 0 ] || [ -n "$R" ] || die "run it as root"
  if [ -z "$R" ] && [ -d /run/systemd/system ]; then
    act systemctl --quiet disable --now tinyfleet-agent.service tinyfleet-root.service || :
    no_attempts
  fi
  no_logins
  for each in agent root; do act rm -rf "$UNITS/tinyfleet-$each.service" "$UNITS/tinyfleet-$each.service.d"; done
  if [ -z "$R" ] && [ -d /run/systemd/system ]; then act systemctl daemon-reload; fi
  act rm -rf "$HOME_DIR"
  if [ -z "$PURGE" ]; then
    [ -z "$DRY" ] || return 0
    say "removed; $ETC and $STATE are kept, with the node's identity (--purge removes them)"
    return 0
  fi
  act rm -rf "$ETC" "$STATE" "$ROOT_STATE"
  if [ -z "$R" ] && id -u "$AGENT_USER" >/dev/null 2>&1; then
    if command -v userdel >/dev/null 2>&1; then act userdel "$AGENT_USER"; else act deluser "$AGENT_USER"; fi
  fi
  [ -z "$DRY" ] || return 0
  say "removed, with the node's identity; take it out of the fleet with: tinyfleet nodes retire NAME"
}

options "$@"
[ -z "$PURGE" ] || [ "$ACTION" = uninstall ] || die "--purge goes with --uninstall"
case $ACTION in
  install) do_install ;;
  uninstall)
    do_uninstall
    [ -z "$DRY" ] || say "nothing was changed"
    ;;
esac
exit 0
}
