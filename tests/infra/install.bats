# The installer on a machine that is a folder, by the shell in $TEST_SH, with the small releases in $RELEASES.
# shellcheck shell=bash disable=SC2030,SC2031

setup() {
  R=$(mktemp -d)
  export TINYFLEET_INSTALL_ROOT=$R/root
  unset TINYFLEET_JOIN_TOKEN_FILE https_proxy no_proxy HTTPS_PROXY NO_PROXY
  export TINYFLEET_JOIN_TOKEN=tfj_canary
  SCRIPT=$RELEASES/1.0.0/install.sh
  CURRENT=$R/root/opt/tinyfleet/current
}

teardown() { rm -rf "$R"; }

install_from() { # release [options]
  local from=$1
  shift
  # shellcheck disable=SC2086 # "busybox sh" is two words
  $TEST_SH "$SCRIPT" --server https://fleet.example --offline "$RELEASES/$from" "$@"
}

installer() {
  # shellcheck disable=SC2086
  $TEST_SH "$SCRIPT" "$@"
}

everything() { # what is there: names, modes and contents, but for times
  (cd "$R" && find root -exec stat -c '%n %a %F' {} + | sort && find root -type f -exec sha256sum {} + | sort)
}

@test "a life: install, again, upgrade, downgrade refused, uninstall, purge" {
  run install_from 1.0.0 --name tiny1
  [ "$status" = 0 ]
  [[ $output == *"installed 1.0.0"* ]]
  [ "$("$CURRENT/bin/tinyfleet" says)" = "1.0.0 says" ]
  [ "$(readlink "$CURRENT")" = slots/a ]
  [ "$(stat -c %a "$R/root/etc/tinyfleet/join-token")" = 600 ]
  [ "$(cat "$R/root/etc/tinyfleet/join-token")" = tfj_canary ]
  [[ $output != *tfj_canary* ]]
  grep -qx 'TINYFLEET_URL=https://fleet.example' "$R/root/etc/tinyfleet/agent.env"
  grep -qx 'TINYFLEET_NODE_NAME=tiny1' "$R/root/etc/tinyfleet/agent.env"
  grep -q '^User=tinyfleet' "$R/root/etc/systemd/system/tinyfleet-agent.service"

  before=$(everything)
  run install_from 1.0.0
  [ "$status" = 0 ]
  [[ $output == *"nothing to change"* ]]
  [ "$before" = "$(everything)" ]

  echo 'TINYFLEET_WALLS=none' >"$R/root/etc/tinyfleet/local.env"
  run install_from 1.1.0
  [ "$status" = 0 ]
  [[ $output == *"installed 1.1.0, in place of 1.0.0"* ]]
  [ "$("$CURRENT/bin/tinyfleet" says)" = "1.1.0 says" ]
  [ "$(cat "$R/root/opt/tinyfleet/slots/a/VERSION")" = 1.0.0 ]
  [ -s "$R/root/etc/tinyfleet/local.env" ]
  grep -q '"version": "1.1.0"' "$R/root/var/lib/tinyfleet-root/slots.json"

  before=$(everything)
  for each in 1.0.0 older; do # the other's root part and units differ from those that run
    for dry in '' --dry-run; do
      run install_from "$each" ${dry:+"$dry"}
      [ "$status" = 1 ]
      [[ $output == *"a downgrade is refused"* ]]
      [ "$before" = "$(everything)" ]
    done
  done
  [ "$("$CURRENT/bin/tinyfleet" says)" = "1.1.0 says" ]

  touch "$R/root/var/lib/tinyfleet/node.key"
  run installer --uninstall
  [ "$status" = 0 ]
  [ ! -e "$R/root/opt/tinyfleet" ]
  [ ! -e "$R/root/etc/systemd/system/tinyfleet-agent.service" ]
  [ -e "$R/root/var/lib/tinyfleet/node.key" ]
  run installer --uninstall --purge
  [ "$status" = 0 ]
  [ "$(find "$R/root" -type f)" = "" ]
}

@test "a dry run says what it would do and changes nothing" {
  run install_from 1.0.0 --dry-run
  [ "$status" = 0 ]
  [[ $output == *"would write $R/root/etc/tinyfleet/agent.env"* ]]
  [[ $output == *"would install 1.0.0"* ]]
  [[ $output == *"nothing was changed"* ]]
  [ ! -e "$R/root" ]
}

@test "a dry run of an uninstall changes nothing" {
  mkdir -p "$R/root/opt/tinyfleet"
  run installer --uninstall --purge --dry-run
  [ "$status" = 0 ]
  [[ $output == *"would run: rm -rf $R/root/opt/tinyfleet"* ]]
  [[ $output == *"nothing was changed"* ]]
  [[ $output != *"removed"* ]]
  [ -d "$R/root/opt/tinyfleet" ]
}

@test "a release with a file that was changed installs nothing" {
  for each in larger unsigned stranger purpose; do
    run install_from "$each"
    [ "$status" = 1 ]
    [[ $output == *"nothing was installed"* ]]
    [ ! -e "$R/root" ]
  done
}

@test "a release for other machines says which it is for" {
  run install_from foreign
  [ "$status" = 1 ]
  [[ $output == *"it is for cp38-pdp11.txt"* ]]
  [ ! -e "$R/root" ]
}

@test "a machine that knows another release key takes nothing of this one" {
  mkdir -p "$R/root/etc/tinyfleet"
  echo 'release@tinyfleet namespaces="tinyfleet-release" ssh-ed25519 AAAA' >"$R/root/etc/tinyfleet/release-signers"
  run install_from 1.0.0
  [ "$status" = 1 ]
  [[ $output == *"another key"* ]]
  [ ! -e "$R/root/opt" ]
}

@test "a script that knows no release key installs nothing" {
  SCRIPT=$BATS_TEST_DIRNAME/../../infra/install.sh
  run install_from 1.0.0
  [ "$status" = 1 ]
  [[ $output == *"knows no release key"* ]]
}

@test "a server that cannot be is refused by name" {
  for each in '' ftp://x http://fleet.example http://127.0.0.1.evil.example 'https://x;id' "https://x'y" 'https://a b' 'https://'; do
    run installer --server "$each" --offline "$RELEASES/1.0.0"
    [ "$status" = 1 ]
    [[ $output == *"--server"* ]]
  done
  [ ! -e "$R/root" ]
}

@test "what is no option, no value and no name is refused" {
  for each in --frob --server '--name a;b' '--name -x' '--name a/b' '--version ../x' --purge '--ca-file /nowhere'; do
    # shellcheck disable=SC2086
    run install_from 1.0.0 $each
    [ "$status" = 1 ]
    [[ $output == *"error: "* ]]
  done
  [ ! -e "$R/root" ]
}

@test "a join token on the command line is refused without repeating it" {
  for each in --join-token=tfj_x '--join-token tfj_x'; do
    # shellcheck disable=SC2086
    run install_from 1.0.0 $each
    [ "$status" = 1 ]
    [[ $output == *TINYFLEET_JOIN_TOKEN_FILE* ]]
    [[ $output != *tfj_x* ]]
  done
}

@test "without a join token nothing is touched, unless nothing is to be started" {
  unset TINYFLEET_JOIN_TOKEN
  run install_from 1.0.0
  [ "$status" = 1 ]
  [[ $output == *"there is no join token"* ]]
  [ ! -e "$R/root" ]
  run install_from 1.0.0 --no-start --dry-run
  [ "$status" = 0 ]
  export TINYFLEET_JOIN_TOKEN_FILE=$R/nowhere
  run install_from 1.0.0 --dry-run
  [ "$status" = 1 ]
  [[ $output == *"is no file with a token"* ]]
}

@test "the join token is in no command line while it installs" {
  mkdir "$R/bin"
  for each in cp cmp chmod mv curl; do # every program that the installer gives anything writes its arguments down
    # shellcheck disable=SC2016
    printf '#!/bin/sh\necho "$0 $*" >>"%s/argv"\nexec %s "$@"\n' "$R" "$(command -v $each)" >"$R/bin/$each"
    chmod 755 "$R/bin/$each"
  done
  PATH=$R/bin:$PATH run install_from 1.0.0
  [ "$status" = 0 ]
  grep -q join-token "$R/argv"
  run grep tfj_canary "$R/argv"
  [ "$status" = 1 ]
}

@test "the join token is nobody else's to read from its first moment on" {
  mkdir "$R/bin"
  # shellcheck disable=SC2016
  printf '#!/bin/sh\ncase $2 in *join-token.new) stat -c %%a "$2" >>"%s/modes" ;; esac\nexec %s "$@"\n' \
    "$R" "$(command -v chmod)" >"$R/bin/chmod"
  chmod 755 "$R/bin/chmod"
  echo tfj_canary >"$R/token"
  chmod 644 "$R/token"
  TINYFLEET_JOIN_TOKEN_FILE=$R/token PATH=$R/bin:$PATH run install_from 1.0.0
  [ "$status" = 0 ]
  [ "$(cat "$R/modes")" = 600 ]
}

@test "cut off by a hangup, a closed pipe or a signal it leaves no token behind" {
  mkdir "$R/bin" "$R/tmp"
  for each in HUP PIPE INT TERM; do
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nkill -%s $PPID\nexec %s "$@"\n' "$each" "$(command -v ssh-keygen)" >"$R/bin/ssh-keygen"
    chmod 755 "$R/bin/ssh-keygen"
    # shellcheck disable=SC2086
    TMPDIR=$R/tmp PATH=$R/bin:$PATH run env --default-signal $TEST_SH "$SCRIPT" --server https://fleet.example --offline "$RELEASES/1.0.0"
    [ "$status" -gt 128 ]
    [ "$(ls "$R/tmp")" = "" ]
    [ ! -e "$R/root" ]
  done
}

@test "privileges are asked for by name and given back" {
  run install_from 1.0.0 --privileged
  [ "$status" = 0 ]
  grep -qx 'User=root' "$R/root/etc/systemd/system/tinyfleet-agent.service.d/privileged.conf"
  run install_from 1.0.0
  [ "$status" = 0 ]
  [ ! -e "$R/root/etc/systemd/system/tinyfleet-agent.service.d/privileged.conf" ]
}

@test "a name, a proxy and an authority stay, until they are said anew" {
  export https_proxy=http://proxy.example:3128 no_proxy=.lan
  echo "an authority" >"$R/ca.pem"
  run install_from 1.0.0 --name tiny1 --ca-file "$R/ca.pem"
  [ "$status" = 0 ]
  grep -qx 'HTTPS_PROXY=http://proxy.example:3128' "$R/root/etc/tinyfleet/agent.env"
  grep -qx 'NO_PROXY=.lan' "$R/root/etc/tinyfleet/agent.env"
  before=$(everything)
  unset https_proxy no_proxy
  run install_from 1.0.0
  [ "$status" = 0 ]
  [ "$before" = "$(everything)" ]
  grep -qx 'TINYFLEET_CA_FILE=/etc/tinyfleet/ca.pem' "$R/root/etc/tinyfleet/agent.env"
  https_proxy='' run install_from 1.0.0 --name tiny2
  [ "$status" = 0 ]
  run cat "$R/root/etc/tinyfleet/agent.env"
  [[ $output == *NO_PROXY=.lan* ]]
  [[ $output == *TINYFLEET_NODE_NAME=tiny2* ]]
  [[ $output != *HTTPS_PROXY* ]]
}

@test "logins are turned on by name, stay with the next release, and end with the agent" {
  run install_from 1.0.0 --logins
  [ "$status" = 1 ]
  [[ $output == *"there is no sshd here"* ]]
  mkdir -p "$R/root/usr/sbin" "$R/root/etc/ssh"
  touch "$R/root/usr/sbin/sshd" "$R/root/etc/ssh/sshd_config"
  run install_from 1.0.0 --logins --dry-run
  [ "$status" = 0 ]
  [[ $output == *"would let the fleet give people logins here"* ]]
  run install_from 1.0.0 --logins
  [ "$status" = 0 ]
  grep -qx TINYFLEET_SSH=on "$R/root/etc/tinyfleet/local.env"
  grep -q PrivateNetwork=no "$R/root/etc/systemd/system/tinyfleet-root.service.d/logins.conf"
  run install_from 1.0.0 --logins
  [[ $output == *"nothing to change"* ]]
  run install_from 1.1.0
  [ "$status" = 0 ]
  [ -e "$R/root/etc/systemd/system/tinyfleet-root.service.d/logins.conf" ]
  grep -qx TINYFLEET_SSH=on "$R/root/etc/tinyfleet/local.env"

  mkdir "$R/root/etc/ssh/tinyfleet"
  mv "$R/root/opt/tinyfleet/root/tinyfleet-root.pyz" "$R/pyz"
  run installer --uninstall
  [ "$status" = 1 ]
  [[ $output == *"run the installer again"* ]]
  [ -d "$R/root/opt/tinyfleet" ]
  mv "$R/pyz" "$R/root/opt/tinyfleet/root/tinyfleet-root.pyz"
  run installer --uninstall
  [ "$status" = 1 ]
  [[ $output == *"could not be ended"* ]] # what stands in for an sshd says nothing
  [ -d "$R/root/opt/tinyfleet" ]
  rm "$R/root/usr/sbin/sshd"
  run installer --uninstall
  [ "$status" = 0 ]
  [ ! -e "$R/root/opt/tinyfleet" ]
  [ ! -e "$R/root/etc/ssh/tinyfleet" ]
  run grep TINYFLEET_SSH "$R/root/etc/tinyfleet/local.env"
  [ "$status" = 1 ]
  run installer --uninstall --purge
  [ "$status" = 0 ]
}

@test "it runs from a pipe" {
  run sh -c "$TEST_SH -s -- --server https://fleet.example --offline '$RELEASES/1.0.0' --dry-run <'$SCRIPT'"
  [ "$status" = 0 ]
  [[ $output == *"would install 1.0.0"* ]]
}
