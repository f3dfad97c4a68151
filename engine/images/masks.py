"""What a `rootfs:` image hides of the directory that it shows: a layer of overlay whiteouts.

For the host's own root the rule is: *programs are shared, belongings are not*. A container sees
/usr (with /bin, /sbin, /lib*), the package stores and databases, and of /etc what an ordinary user
of the host may read; everything else is an empty skeleton or not there. For any other directory,
which somebody unpacked on purpose, only the engine's own folders are hidden. More is shown by an
explicit bind mount, and only by that.

overlayfs refuses a lower layer that lies below another one, so the mask of / can't be on the file
system of /: it lives on a tmpfs, and like the containers that use it no longer than until the
machine's next start. A mask is never changed and never removed while containers may use it.
"""

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.errors import Failure, InvalidRequest, NotFound
from engine.images.layers import remove_directory
from engine.images.unpack import OPAQUE
from engine.oci.rootfs import MARK

REDIRECT = "trusted.overlay.redirect"
MEMORY_FOLDERS = (Path("/dev/shm"), Path("/run"))
# A chmod changes no folder's time, so now and then everything is looked at again.
RESCAN_AFTER = 5.0  # seconds

# Shown as they are. /nix and /gnu are package stores: /bin/sh leads there.
_PROGRAMS = frozenset(
    ("bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32", "libo32", "nix", "gnu")
)
# Shown as an ordinary user of the host sees them.
_SHARED = ("etc", "usr/local/etc")
# Hidden also where they aren't there yet: what passwd(1), visudo(8), ssh-keygen(1) and their like
# make while a container runs would show in it at once. All else that becomes private on the host
# is hidden from a container's next start on.
_SECRETS = (
    *(f"etc/{name}{end}" for name in ("shadow", "gshadow") for end in ("", "-", "+", ".lock")),
    *("etc/nshadow", "etc/ngshadow", "etc/security/opasswd", "etc/security/nopasswd"),
    *("etc/sudoers", "etc/sudoers.d", "etc/sudoers.tmp", "etc/krb5.keytab"),
    *(f"etc/ssh/ssh_host_{kind}_key" for kind in ("dsa", "ecdsa", "ed25519", "rsa")),
    *("etc/ssl/private", "etc/letsencrypt", "etc/wireguard", "etc/pki/tls/private"),
)
# What package managers know about the programs in /usr. Without it none could add to them.
_DATABASES = ("var/lib/dpkg", "var/lib/apt", "var/lib/rpm", "var/lib/pacman", "var/lib/ucf")
# A fresh machine's empty folders.
_SKELETON = {
    "boot": 0o755,
    "dev": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "run/lock": 0o1777,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var": 0o755,
    "var/backups": 0o755,
    "var/cache": 0o755,
    "var/cache/apt": 0o755,
    "var/cache/apt/archives": 0o755,
    "var/cache/apt/archives/partial": 0o755,
    "var/lib": 0o755,
    "var/lib/misc": 0o755,
    "var/local": 0o755,
    "var/log": 0o755,
    "var/log/apt": 0o755,
    "var/mail": 0o755,
    "var/opt": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}
_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
# The runtime mounts its own files there. On some hosts they are links into /run.
MOUNT_POINTS = ("etc/hostname", "etc/hosts", "etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class MaskEntry:
    path: str  # relative to the root
    kind: str  # "folder" merges with what lies below; "empty", "file", "link", "whiteout" hide it
    mode: int = 0
    uid: int = 0
    gid: int = 0
    target: str = ""  # of a link; of a folder: where in the layers below its content is


@dataclass(frozen=True, slots=True)
class Mask:
    entries: tuple[MaskEntry, ...]
    # The folders that were looked at, with what tells whether they changed.
    seen: tuple[tuple[str, int, int], ...]

    @property
    def key(self) -> str:
        # On the path of every start: asdict would take a millisecond.
        text = repr(self.entries)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def is_current(self) -> bool:
        return all(_stamp(path) == (mtime, ctime) for path, mtime, ctime in self.seen)


class Masks:
    """The masks of one engine. Its calls take a millisecond, ten when something changed."""

    def __init__(self, root: Path, private: Iterable[Path]) -> None:
        self._root = root
        self._private = tuple(sorted({os.path.realpath(path) for path in private}))
        self._known: dict[str, tuple[Mask, float]] = {}

    def lowers(self, path: str) -> tuple[str, ...]:
        """Overlay lower directories that show `path`, top first."""
        mask = self._mask(path)
        if not mask.entries:
            return (path,)
        return (str(self._directory(mask, path)), path)

    def retire(self) -> None:
        """No container is left: the masks go."""
        self._known.clear()
        for folder in self._folders():
            if _is_ours(folder):
                remove_directory(folder)

    def _mask(self, path: str) -> Mask:
        now = time.monotonic()
        known = self._known.get(path)
        if known is not None and now < known[1] + RESCAN_AFTER and known[0].is_current():
            return known[0]
        is_host = os.path.samestat(os.stat(path), os.stat("/"))
        mask = host_mask(path, self._private) if is_host else directory_mask(path, self._private)
        self._known[path] = (mask, now)
        return mask

    def _directory(self, mask: Mask, path: str) -> Path:
        folder = self._folder_for(path)
        directory = folder / mask.key
        if not directory.is_dir():
            temporary = folder / f".{secrets.token_hex(8)}"
            make_mask(mask, temporary)
            os.rename(temporary, directory)
        return directory

    def _folder_for(self, path: str) -> Path:
        device = os.stat(path).st_dev
        for folder in self._folders():
            if folder.parent.is_dir() and os.stat(folder.parent).st_dev != device:
                folder.mkdir(mode=0o700, exist_ok=True)
                if _is_ours(folder):
                    return folder
        raise Failure(
            f"cannot hide what is private below {path}: that takes a file system other than its "
            "own, as a tmpfs at /dev/shm or /run; none was found"
        )

    def _folders(self) -> Iterator[Path]:
        yield self._root / "masks"
        tag = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:12]
        for memory in MEMORY_FOLDERS:
            yield memory / f"pycompose-masks-{tag}"


def resolve_directory(path: str, private: Iterable[str]) -> str:
    """The directory that `rootfs:<path>` shows. Raises NotFound, InvalidRequest."""
    if not path.startswith("/"):
        raise InvalidRequest(f"invalid reference rootfs:{path}: the path must be absolute")
    if "\0" in path:
        raise InvalidRequest("invalid reference rootfs: NUL in the path")
    resolved = os.path.realpath(path)
    if not os.path.lexists(resolved):
        raise NotFound(f"No such image: rootfs:{path}: no such directory")
    if not os.path.isdir(resolved):
        raise NotFound(f"No such image: rootfs:{path}: not a directory")
    for folder in private:
        if PurePosixPath(resolved).is_relative_to(folder):
            raise InvalidRequest(
                f"invalid reference rootfs:{path}: {folder} belongs to the engine itself"
            )
    return resolved


def host_mask(root: str, private: Sequence[str]) -> Mask:
    """The mask of the host's own root directory."""
    scan = _Scan(root)
    for name, mode in _SKELETON.items():
        scan.put(MaskEntry(name, "empty", mode))
    for name, target in _LINKS.items():
        scan.put(MaskEntry(name, "link", 0o777, target=target))
    with scan.open("") as entries:
        for entry in entries:
            if entry.name not in _PROGRAMS | _SKELETON.keys() | {"etc"}:
                scan.put(MaskEntry(entry.name, "whiteout"))
    if _follows_redirects():
        for name in _DATABASES:
            scan.redirect(name)
    for name in _SHARED:
        scan.hide_unreadable(name)
    for name in _SECRETS:
        scan.hide_for_good(name)
    for name in MOUNT_POINTS:
        scan.put(MaskEntry(name, "file", 0o644))
    scan.put(MaskEntry(MARK.lstrip("/"), "file", 0o755))
    scan.hide_private(private)
    return scan.mask()


def directory_mask(root: str, private: Sequence[str]) -> Mask:
    """The mask of a directory that isn't the host's root: only what is the engine's own."""
    scan = _Scan(root)
    scan.hide_private(private)
    return scan.mask()


class _Scan:
    """Gathers the entries of a mask; an entry brings the folders that lead to it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._entries: dict[str, MaskEntry] = {}
        self._seen: dict[str, tuple[int, int]] = {}

    def put(self, entry: MaskEntry) -> None:
        for parent in reversed(PurePosixPath(entry.path).parents):
            self._folder("" if str(parent) == "." else str(parent))
        self._entries[entry.path] = entry

    def open(self, name: str) -> "os._ScandirIterator[str]":
        path = os.path.join(self._root, name)
        self._seen[path] = _stamp(path)
        return os.scandir(path)

    def redirect(self, name: str) -> None:
        """Show a folder though the one above it is empty."""
        found = self._lstat(name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            self.put(_folder_entry(name, found, target="/" + name))

    def hide_unreadable(self, name: str) -> None:
        """Below `name`, hide what the host's files modes keep from other users."""
        found = self._lstat(name)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return
        waiting = [name]
        while waiting:
            folder = waiting.pop()
            with self.open(folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}"
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if not _others_may_read(mode):
                        self.put(MaskEntry(path, "whiteout"))
                    elif stat.S_ISDIR(mode):
                        waiting.append(path)

    def hide_for_good(self, name: str) -> None:
        """Hide `name` though it may not be there; if not even its folder is, hide that."""
        path = PurePosixPath(name)
        while len(path.parts) > 1 and not self._is_folder(str(path.parent)):
            path = path.parent
        if not self._is_hidden(str(path)):
            self.put(MaskEntry(str(path), "whiteout"))

    def hide_private(self, private: Sequence[str]) -> None:
        root = PurePosixPath(self._root)
        for path in private:
            inside = PurePosixPath(path)
            if not inside.is_relative_to(root) or inside == root:
                continue
            name = str(inside.relative_to(root))
            if not self._is_hidden(name):
                self.put(MaskEntry(name, "whiteout"))

    def mask(self) -> Mask:
        entries = tuple(self._entries[path] for path in sorted(self._entries))
        seen = tuple((path, *stamp) for path, stamp in self._seen.items())
        return Mask(entries, seen)

    def _folder(self, name: str) -> None:
        if name in self._entries:
            return
        found = self._lstat(name)
        if found is None or not stat.S_ISDIR(found.st_mode):
            self._entries[name] = MaskEntry(name, "empty", 0o755)
        else:
            self._entries[name] = _folder_entry(name, found)

    def _is_hidden(self, name: str) -> bool:
        """By an entry for the folder that it lies in: gone, or empty and then not redirected."""
        for parent in (PurePosixPath(name), *PurePosixPath(name).parents):
            entry = self._entries.get(str(parent))
            if entry is not None:
                return entry.kind != "folder"
        return False

    def _is_folder(self, name: str) -> bool:
        found = self._lstat(name)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def _lstat(self, name: str) -> os.stat_result | None:
        try:
            return os.lstat(os.path.join(self._root, name))
        except FileNotFoundError:
            return None


def make_mask(mask: Mask, directory: Path) -> None:
    """Write the mask as a new overlay layer at `directory`."""
    directory.mkdir(mode=0o755)
    for entry in mask.entries:
        path = directory / entry.path
        match entry.kind:
            case "whiteout":
                os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            case "link":
                os.symlink(entry.target, path)
            case "file":
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                os.chmod(path, entry.mode)
            case _:
                path.mkdir(exist_ok=entry.path == "")
                os.chown(path, entry.uid, entry.gid)
                os.chmod(path, entry.mode)
                if entry.kind == "empty":
                    os.setxattr(path, OPAQUE, b"y")
                elif entry.target:
                    os.setxattr(path, REDIRECT, os.fsencode(entry.target))


def _folder_entry(name: str, found: os.stat_result, *, target: str = "") -> MaskEntry:
    mode = stat.S_IMODE(found.st_mode)
    return MaskEntry(name, "folder", mode, found.st_uid, found.st_gid, target)


def _others_may_read(mode: int) -> bool:
    if stat.S_ISLNK(mode):
        return True  # what it leads to decides
    if stat.S_ISDIR(mode):
        return bool(mode & stat.S_IXOTH)
    return stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return found.st_mtime_ns, found.st_ctime_ns


def _is_ours(folder: Path) -> bool:
    """/dev/shm is open to all: whoever got there first with that name isn't us."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return False
    mine = found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700
    return mine and stat.S_ISDIR(found.st_mode)


def _follows_redirects() -> bool:
    parameter = Path("/sys/module/overlay/parameters/redirect_always_follow")
    return not parameter.exists() or parameter.read_text().strip() == "Y"
