"""Who a node is: its keys, what they signed, and that nobody else uses them.

A request counts when the key is known and live, its time within a minute of ours, and the signature right; a
mutation's nonce is then spent by one INSERT (the primary key refuses the second), a sync's (boot id, sequence) by
one UPDATE in `fleet.sync`. Everything is checked before the body is read.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import bindparam, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet import events, trust
from fleet.agents.signature import WINDOW_S, Signature, key_id, rotation_text
from fleet.errors import InvalidSpec, NotPermitted
from fleet.models import Node, NodeKey, Nonce, Standing, Token
from fleet.principals import Principal
from fleet.standing_rows import Trust

NONCE_KEPT_S = 2 * WINDOW_S + 60.0  # a request from the future is good for two windows
OVERLAP_S = 3600.0  # both keys are good for so long after a rotation
KEY_AGE_S = 30 * 86_400.0  # then the node is asked for a new one
TENANT = "default"
# Everything that a signature is held against, in one statement: each request of each node asks for it.
_KNOWN = (
    select(
        NodeKey.node_id,
        NodeKey.public_key,
        NodeKey.expires_at,
        Node.name,
        Standing.contested_at,
        Standing.signed_from,
    )
    .join(Node, Node.id == NodeKey.node_id)
    .join(Standing, Standing.node_id == NodeKey.node_id)
    .where(NodeKey.id == bindparam("key"))
)


# ------------------------------------------------------------------------------------------- signatures


def verify(session: Session, signed: Signature, method: str, target: str, now: float) -> Principal:
    """The node that signed this request. Raises NotPermitted with the reason.

    What is left to check is that the body has the digest that was signed, and then the nonce.
    """
    key = session.execute(_KNOWN, {"key": signed.key}).one_or_none()
    if key is None:
        raise NotPermitted("the node's key is unknown here: join again with a join token")
    if key.expires_at is not None and key.expires_at <= now:
        raise NotPermitted("the node's key has ended: it was replaced, or the node was retired")
    if abs(now - signed.at) > WINDOW_S:
        raise NotPermitted(
            f"the request was signed {signed.at - now:+.0f} s from this server's time; {WINDOW_S:.0f} s are accepted"
        )
    if not right(key.public_key, signed.signature, signed.text(method, target)):
        raise NotPermitted("the signature is not of this request by this key")
    _check_standing(key.name, key.contested_at, signed.at, key.signed_from)
    return Principal("node", key.node_id, key.name, TENANT, "node")


def _check_standing(name: str, contested_at: float | None, signed_at: float, signed_from: float) -> None:
    if contested_at is not None:
        raise NotPermitted(
            f"node {name} was used by two live agents: both are refused until an operator has decided "
            f"(tinyfleet nodes readmit {name}, or retire)"
        )
    if signed_at < signed_from:
        raise NotPermitted("the request was signed before the node was readmitted")


def right(public_key: str, signature: str, text: bytes) -> bool:
    """Whether the signature (hex) is of this text by this key (hex)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def spend(session: Session, signed: Signature, now: float) -> None:
    """Accept a mutation once. NotPermitted when it came before; what can no longer be replayed is forgotten."""
    session.execute(delete(Nonce).where(Nonce.expires_at < now))
    try:
        with session.begin_nested():
            session.add(Nonce(key_id=signed.key, nonce=signed.nonce, expires_at=now + NONCE_KEPT_S))
    except IntegrityError as error:
        raise NotPermitted("this very request was accepted before: sign it anew to repeat it") from error


# ------------------------------------------------------------------------------------------------- keys


def establish(session: Session, node: Node, public_key: str, join: Token, now: float) -> None:
    """The identity of a node that has just been enrolled: its standing and its first key."""
    session.add(Standing(node_id=node.id, pool=join.pool or "", trust_at=now, join_token_id=join.id))
    session.flush()
    _add(session, node.id, public_key, now)


def joined(session: Session, public_key: str, join: Token) -> Node | None:
    """The node that has joined with this token and this key: its answer got lost, and it asks again."""
    query = select(Node).join(Standing, Standing.node_id == Node.id).join(NodeKey, NodeKey.node_id == Node.id)
    with_both = (Standing.join_token_id == join.id) & (NodeKey.public_key == public_key)
    return session.scalars(query.where(with_both, NodeKey.expires_at.is_(None))).first()


def _add(session: Session, node_id: int, public_key: str, now: float) -> NodeKey:
    """A key is of one node, for ever: InvalidSpec for one that is known."""
    name = key_id(bytes.fromhex(public_key))
    if session.get(NodeKey, name) is not None:
        raise InvalidSpec("public_key", "this key has joined before: remove the state folder and join anew")
    key = NodeKey(id=name, node_id=node_id, public_key=public_key, created_at=now)
    session.add(key)
    session.flush()
    return key


def rotate(session: Session, node_id: int, using: str, public_key: str, proof: str, now: float) -> NodeKey:
    """The node's next key. The one that signed the request, `using`, is good for another hour, or not at all when
    an operator has called for a new one. Sent again, it changes nothing. InvalidSpec without proof of the key."""
    if not right(public_key, proof, rotation_text(node_id, public_key)):
        raise InvalidSpec("proof", "is not the new key's signature of this rotation")
    known = session.get(NodeKey, key_id(bytes.fromhex(public_key)))
    if known is not None and known.node_id == node_id and known.expires_at is None:
        return known
    standing = trust.standing(session, node_id)
    fresh = _add(session, node_id, public_key, now)
    _end_keys(session, node_id, now if standing.rotate else now + OVERLAP_S, fresh.id)
    standing.rotate = False
    data = {"key": fresh.id, "signed_with": using}
    events.append(session, "node.key_rotated", f"node:{node_id}", data, now)
    return fresh


def _end_keys(session: Session, node_id: int, at: float, but: str = "") -> None:
    for key in session.scalars(select(NodeKey).where(NodeKey.node_id == node_id, NodeKey.id != but)):
        if key.expires_at is None or key.expires_at > at:
            key.expires_at = at
    session.flush()


def end(session: Session, node_id: int, now: float) -> None:
    """The node is retired: none of its keys is good any more."""
    _end_keys(session, node_id, now)


def due(session: Session, node_id: int, now: float) -> bool:
    """Whether the node should bring a new key: its newest is old, or an operator wants one."""
    newest = select(NodeKey.created_at).where(NodeKey.node_id == node_id)
    made = session.scalars(newest.order_by(NodeKey.created_at.desc()).limit(1)).first()
    return trust.standing(session, node_id).rotate or (made is not None and now - made > KEY_AGE_S)


# ----------------------------------------------------------------------------------------------- clones


def contest(session: Session, node: Node, boot_id: str, signed_at: float, now: float) -> bool:
    """Whether this report shows that two live agents use the node's identity; then both are refused from now on.

    An agent that starts anew has a new boot id, and the one before it is gone: its state folder is locked. So what
    an earlier boot signed after the present one had begun to report comes from a copy.
    """
    if boot_id == node.boot_id:
        return False
    standing = trust.standing(session, node.id)
    if boot_id not in node.past_boots:
        standing.boot_signed_at = signed_at
        return False
    if standing.boot_signed_at is None or signed_at <= standing.boot_signed_at:
        return False  # sent before the present boot began, and late
    standing.contested_at = now
    data = {"boot_id": node.boot_id, "other": boot_id}
    events.append(session, "node.contested", f"node:{node.id}", data, now)
    trust.lower(session, node.id, Trust.TAINTED, "two live agents used its identity", now)
    return True


def readmit(session: Session, node: Node, principal: Principal, now: float) -> Standing:
    """An operator has stopped the copy: the agent that reports next is the node, and brings a new key at once.

    What was signed before is void, and so are both boots: with the key replaced, the copy stays outside. It may be
    done to any node whose key somebody may have seen.
    """
    standing = trust.standing(session, node.id)
    standing.contested_at, standing.boot_signed_at = None, None
    standing.signed_from, standing.rotate = now, True
    node.boot_id, node.sequence, node.past_boots = None, 0, []
    session.flush()
    events.append(session, "node.readmitted", f"node:{node.id}", {}, now)
    events.audit(session, principal, "node.readmit", f"node:{node.id}", {}, now)
    return standing
