"""Mounts, and references to configs and secrets, out of the tree."""

from compose.load.fields import Fields
from compose.load.short import clean
from compose.load.tree import spelled
from compose.model.mount import (
    BindOptions,
    FileReference,
    ImageOptions,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)


def bind_mount(fields: Fields) -> Mount:
    kind = fields.text("type")
    if not kind:
        fields.required("type", "write one of: " + ", ".join(MountType))
    type_ = MountType(kind) if kind in list(MountType) else MountType.VOLUME
    fields.required("target", "say where in the container it is mounted")
    source = fields.path("source") if type_ is MountType.BIND else fields.text("source")
    if type_ is MountType.BIND and not source:
        fields.required("source", "say which folder or file of the host is mounted")
    bind, volume = fields.inner("bind"), fields.inner("volume")
    tmpfs, image = fields.inner("tmpfs"), fields.inner("image")
    for name, given in (("bind", bind), ("volume", volume), ("tmpfs", tmpfs), ("image", image)):
        # A named volume may ask for a label of SELinux, or a propagation, as a bind does.
        fits = name == type_ or (name == "bind" and type_ is MountType.VOLUME)
        if given is not None and kind and not fits and given.node.entries:
            fields.add(
                name,
                f'"{name}" has no meaning for a mount of type {type_}',
                f'change the type to {name}, or remove "{name}:"',
            )
    return Mount(
        type=type_,
        target=clean(fields.text("target")),
        source=source,
        read_only=fields.flag("read_only"),
        consistency=fields.text("consistency"),
        bind=_bind_options(bind) if bind is not None and type_ in _BOUND else None,
        volume=fields.one("volume", _volume_options),
        tmpfs=fields.one("tmpfs", _tmpfs_options),
        image=fields.one("image", lambda options: ImageOptions(options.text("subpath"))),
    )


_BOUND = (MountType.BIND, MountType.VOLUME)
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def _bind_options(fields: Fields) -> BindOptions:
    propagation = fields.text("propagation")
    if propagation and propagation not in _PROPAGATION:
        fields.add(
            "propagation",
            f'"{propagation}" isn\'t a kind of propagation',
            f"it can be {', '.join(_PROPAGATION)}",
        )
    return BindOptions(
        propagation=propagation,
        create_host_path=fields.optional_flag("create_host_path"),
        selinux=fields.text("selinux"),
        recursive=fields.text("recursive"),
    )


def _volume_options(fields: Fields) -> VolumeOptions:
    return VolumeOptions(fields.flag("nocopy"), fields.text("subpath"), fields.pairs("labels"))


def _tmpfs_options(fields: Fields) -> TmpfsOptions:
    return TmpfsOptions(size=fields.size("size"), mode=_mode(fields))


def _mode(fields: Fields) -> int | None:
    """File permissions: numbers as they are, text as octal digits."""
    node = fields.scalar("mode")
    if node is None:
        return None
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        if node.text == str(node.value) and node.value > 7 and set(node.text) <= set("01234567"):
            fields.problems.warn(
                node,
                (*fields.place, "mode"),
                f"{node.text} is a decimal number: the mode becomes 0{node.value:o}",
                f'if you mean octal, write "0{node.text}"',
            )
        return node.value
    try:
        return int(spelled(node.value), 8)
    except ValueError:
        fields.add(
            "mode", f'"{spelled(node.value)}" isn\'t a file mode', 'write it in octal: "0440"'
        )
        return None


def bind_reference(fields: Fields) -> FileReference:
    return FileReference(
        source=fields.required("source", "say which one of the top level is meant"),
        target=fields.text("target"),
        uid=fields.text("uid"),
        gid=fields.text("gid"),
        mode=_mode(fields),
    )


def bind_secret_reference(fields: Fields) -> FileReference:
    reference = bind_reference(fields)
    if reference.target:
        return reference
    return FileReference(
        source=reference.source,
        target=f"/run/secrets/{reference.source}",
        uid=reference.uid,
        gid=reference.gid,
        mode=reference.mode,
    )
