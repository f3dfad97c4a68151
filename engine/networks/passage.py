"""Pure: rules of ours in the forward chains of other programs, as nftables messages.

What one chain drops is gone, whatever others accept. Where a chain's policy drops all that none of
its rules names, rules of ours at its end let our bridges' packets by. So what the program's own
rules say holds, and what our table drops stays dropped. Comments tell them from all others.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from engine.networks.firewall_rules import (
    table_name,
)
from engine.networks.netlink import (
    APPEND,
    CREATE,
    Message,
    Reply,
    attribute,
    attributes,
    replies,
    text,
)
from engine.networks.nft import IIF, OIF, Counter, Family, Hook, InterfaceIs, Verdict
from engine.networks.nft_message import NEWCHAIN, NEWRULE, SUBSYSTEM, message, rule_expressions

GETRULE, DELRULE = 7, 8
FAMILIES = {1: "inet", **{family.number: family.label for family in Family}}  # NFPROTO_*
WORDS = {IIF: "from", OIF: "to"}
DIRECTIONS = {word: direction for direction, word in WORDS.items()}
COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT: where nft and iptables look for it
UNCONDITIONAL = {"counter", "log", "immediate", "reject", "target"}


@dataclass(frozen=True, slots=True)
class ForwardChain:
    family: int  # one of FAMILIES
    table: str
    name: str
    drops: bool  # by its policy

    def __str__(self) -> str:
        return f"{FAMILIES[self.family]} {self.table} {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Passage:
    """What comes from a bridge, or goes to it."""

    bridge: str
    direction: str


@dataclass(frozen=True, slots=True)
class ListedRule:
    handle: bytes
    passage: Passage | None  # of a rule of ours
    drops_all: bool


def forward_chain(reply: Reply) -> ForwardChain | None:
    """None where an answer to `list_chains` isn't of a chain that forwarded packets start at."""
    found = dict(attributes(reply.body[4:]))
    if reply.body[0] not in FAMILIES or 4 not in found or 5 not in found:
        return None
    hook = int.from_bytes(dict(attributes(found[4])).get(1, b""), "big")
    if hook != Hook.FORWARD.value:
        return None
    policy = int.from_bytes(found[5], "big")
    drops = policy == Verdict.DROP.value
    return ForwardChain(reply.body[0], _string(found[1]), _string(found[3]), drops)


def list_rules(chain: ForwardChain) -> Message:
    purpose = f"list the rules of the firewall chain {chain}"
    return message(GETRULE, _place(chain), 0, purpose, chain.family)


def listed_rule(reply: Reply, tag: str) -> ListedRule:
    parts = dict(attributes(reply.body[4:]))
    return ListedRule(parts[3], _passage(reply.body, tag), _drops_all(parts.get(4, b"")))


def reconcile(
    chain: ForwardChain, rules: Sequence[ListedRule], bridges: Collection[str], tag: str
) -> list[Message]:
    """What makes each of our rules that is needed be there once, and no other."""
    missing = {Passage(bridge, each) for bridge in bridges for each in (IIF, OIF)}
    if not chain.drops:
        missing.clear()
    messages = []
    for rule in rules:
        if rule.passage in missing:
            missing.remove(rule.passage)
        elif rule.passage is not None:
            purpose = f"delete a rule of the firewall chain {chain}"
            body = _place(chain) + attribute(3, rule.handle)
            messages.append(message(DELRULE, body, 0, purpose, chain.family))
    # Some write out what the policy says too, with an answer or a line in the log.
    end = next((rule.handle for rule in rules if rule.drops_all), None)
    return messages + [_new_rule(chain, each, tag, end) for each in sorted(missing)]


def as_text(bridges: Collection[str]) -> str:
    """The rules in nft's syntax, for who has to add them by other means."""
    names = ", ".join(f'"{bridge}"' for bridge in sorted(bridges))
    return "; ".join(f"{each} {{ {names} }} accept" for each in (IIF, OIF))


def may_be_closed(datagram: bytes, tag: str) -> bool:
    """Whether a notification is of a chain that drops, or of a rule of ours that went."""
    for reply in replies(datagram):
        if reply.type == SUBSYSTEM << 8 | NEWCHAIN:
            chain = forward_chain(reply)
            if chain is not None and chain.drops:
                return True
        elif reply.type == SUBSYSTEM << 8 | DELRULE and _passage(reply.body, tag):
            return True
    return False


def _new_rule(chain: ForwardChain, passage: Passage, tag: str, end: bytes | None) -> Message:
    """Before the rule with the handle `end`, or last."""
    words = f"{table_name(tag)}: {WORDS[passage.direction]} {passage.bridge}".encode() + b"\0"
    rule = (InterfaceIs(passage.direction, passage.bridge), Counter(), Verdict.ACCEPT)
    body = _place(chain) + rule_expressions(rule)
    body += attribute(7, bytes((COMMENT, len(words))) + words)
    purpose = f"add a rule to the firewall chain {chain}"
    if end is None:
        return message(NEWRULE, body, CREATE | APPEND, purpose, chain.family)
    return message(NEWRULE, body + attribute(6, end), CREATE, purpose, chain.family)


def _place(chain: ForwardChain) -> bytes:
    return text(1, chain.table) + text(2, chain.name)


def _passage(body: bytes, tag: str) -> Passage | None:
    """By the comment, wherever it is: iptables-restore makes an expression of it."""
    pattern = re.escape(table_name(tag)) + r": (from|to) ([^\0]+)\0"
    found = re.search(pattern.encode(), body)
    if found is None:
        return None
    word, bridge = (each.decode(errors="replace") for each in found.groups())
    return Passage(bridge, DIRECTIONS[word])


def _drops_all(expressions: bytes) -> bool:
    """Whether a rule drops or rejects whatever comes to it."""
    stops = False
    for _, expression in attributes(expressions):
        parts = dict(attributes(expression))
        name, inner = _string(parts[1]), dict(attributes(parts.get(2, b"")))
        if name not in UNCONDITIONAL:
            return False
        if name == "reject" or (name == "target" and _string(inner[1]) == "REJECT"):
            stops = True
        elif name == "immediate":
            verdict = dict(attributes(dict(attributes(inner[2])).get(2, b"")))
            stops = int.from_bytes(verdict.get(1, b"\1"), "big") == Verdict.DROP.value
    return stops


def _string(packed: bytes) -> str:
    return packed.rstrip(b"\0").decode(errors="replace")
