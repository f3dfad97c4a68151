"""`build`, and what it has in common with its service, out of the tree."""

from compose.load.bind_mounts import bind_reference
from compose.load.fields import Fields, absolute
from compose.model.build import SERVICE, Build, Ulimit, is_remote


def is_elsewhere(context: str) -> bool:
    """A build context that isn't a folder here."""
    return (
        is_remote(context)
        or "://" in context
        or context.startswith((SERVICE, "target:"))
        or context == "-"
    )


def bind_build(fields: Fields) -> Build:
    context = fields.text("context", ".")
    node = fields.scalar("context") or fields.node
    dockerfile, inline = fields.text("dockerfile"), fields.text("dockerfile_inline")
    if dockerfile and inline:
        fields.add(
            "dockerfile_inline",
            '"dockerfile" and "dockerfile_inline" exclude each other',
            "keep one of the two",
        )
    contexts, agents = fields.inner("additional_contexts"), fields.inner("ssh")
    return Build(
        context=context if is_elsewhere(context) else absolute(context, node),
        # Written, but empty (a variable that isn't set): the engine's own default.
        dockerfile=dockerfile or ("" if inline or "dockerfile" in fields else "Dockerfile"),
        dockerfile_inline=inline,
        entitlements=fields.texts("entitlements"),
        args={name: value for name, value in fields.variables("args").items() if value is not None},
        provenance=fields.text("provenance"),
        sbom=fields.text("sbom"),
        ssh={key: agents.path(key) if agents.text(key) else "" for key in agents.names()}
        if agents
        else {},
        labels=fields.pairs("labels"),
        cache_from=fields.texts("cache_from"),
        cache_to=fields.texts("cache_to"),
        no_cache=fields.flag("no_cache"),
        no_cache_filter=fields.texts("no_cache_filter"),
        additional_contexts={
            key: contexts.text(key) if is_elsewhere(contexts.text(key)) else contexts.path(key)
            for key in contexts.names()
        }
        if contexts
        else {},
        pull=fields.flag("pull"),
        extra_hosts=bind_hosts(fields),
        isolation=fields.text("isolation"),
        network=fields.text("network"),
        target=fields.text("target"),
        secrets=tuple(bind_reference(entry) for entry in fields.each("secrets")),
        shm_size=fields.size("shm_size"),
        tags=fields.texts("tags"),
        ulimits=dict(bind_ulimits(fields)),
        platforms=fields.texts("platforms"),
        privileged=fields.flag("privileged"),
    )


def bind_hosts(fields: Fields) -> dict[str, tuple[str, ...]]:
    hosts: dict[str, tuple[str, ...]] = {}
    for line in fields.texts("extra_hosts"):
        name, _, address = line.partition("=")
        hosts[name] = (*hosts.get(name, ()), address)
    return hosts


def bind_ulimits(fields: Fields) -> list[tuple[str, Ulimit]]:
    limits = fields.inner("ulimits")
    found: list[tuple[str, Ulimit]] = []
    for key in limits.names() if limits else ():
        assert limits is not None
        both = limits.inner(key)
        if both is None:
            single = limits.whole(key)
            if single is not None:
                found.append((key, Ulimit(single, single, single=True)))
            continue
        for name in ("soft", "hard"):
            both.required(name, "write both soft and hard, or one number for both")
        soft, hard = both.whole("soft"), both.whole("hard")
        if soft is None or hard is None:
            continue
        if hard != -1 and (soft == -1 or soft > hard):
            both.add("soft", f"the soft limit {soft} is above the hard limit {hard}")
        found.append((key, Ulimit(soft, hard)))
    return found
