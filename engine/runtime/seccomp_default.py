"""The policy of containers that ask for none: Docker's in effect, and a little stricter.

Every call of the kernel's tables passes, but for those named here and those that are newer than
the tables. Stricter: AF_ALG and AF_VSOCK are closed also to a family with set upper bits and to
the 32-bit socketcall, whose arguments no filter can see.
"""

from engine.runtime.seccomp_profile import Action, Argument, Condition, Operator, Profile, Rule
from engine.runtime.syscalls import AARCH64, I386, X86_64

# Closed, but for the holder of the capability that the kernel itself asks for.
_OPENED_BY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": """
        kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace
    """,
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# Closed whatever the capabilities.
_CLOSED = """
    add_key keyctl request_key
    io_uring_enter io_uring_register io_uring_setup
    kexec_file_load kexec_load create_module query_module get_kernel_syms
    migrate_pages move_pages userfaultfd
    pivot_root swapoff swapon
    _sysctl afs_syscall getpmsg nfsservctl putpmsg security sysfs tuxcall uselib ustat vserver
    bdflush break ftime gtty idle lock mpx nice oldfstat oldlstat oldolduname oldstat olduname
    prof profil readdir sgetmask sigaction signal sigpending sigsuspend ssetmask stty ulimit
    vm86 vm86old
"""

# A tracer could lead a tracee past its filter before Linux 4.8.
_TRACING = ("process_vm_readv", "process_vm_writev", "ptrace")
_SAFE_TRACING_KERNEL = (4, 8)

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NAMESPACE_FLAGS = 0x7E020000

# What setarch(8) and old programs need: PER_LINUX, PER_LINUX32, both with UNAME26, and asking.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# The kernel looks at the lower half of the argument only, and so must the filter.
_INT = 0xFFFFFFFF
_CLOSED_FAMILIES = (38, 40)  # AF_ALG, AF_VSOCK

_EPERM, _ENOSYS = 1, 38


def default_profile(*, socketcall: bool = False) -> Profile:
    """The policy. `socketcall` opens that call to 32-bit programs whose libc knows no other way
    to a socket, and with it every address family."""
    gated = {name for names in _OPENED_BY.values() for name in names.split()}
    special = gated | {"personality", "socket"}
    closed = {*_CLOSED.split(), *(() if socketcall else ("socketcall",))}
    names = (X86_64.keys() | I386.keys() | AARCH64.keys()) - special - closed
    is_administrator = Condition(capabilities=frozenset(("CAP_SYS_ADMIN",)))
    rules = [
        Rule(tuple(sorted(names)), Action.ALLOW),
        *(
            Rule(tuple(opened.split()), Action.ALLOW, includes=Condition(frozenset((capability,))))
            for capability, opened in _OPENED_BY.items()
        ),
        Rule(_TRACING, Action.ALLOW, includes=Condition(kernel=_SAFE_TRACING_KERNEL)),
        Rule(
            ("clone",),
            Action.ALLOW,
            arguments=(Argument(0, _NAMESPACE_FLAGS, Operator.MASKED_EQ, 0),),
            excludes=is_administrator,
        ),
        # Its flags are in memory. A libc that is told of no such call takes clone.
        Rule(("clone3",), Action.ERRNO, _ENOSYS, excludes=is_administrator),
        *(
            Rule(
                ("personality",),
                Action.ALLOW,
                arguments=(Argument(0, value, Operator.EQ),),
            )
            for value in _PERSONALITIES
        ),
        *(
            Rule(
                ("socket",),
                Action.ERRNO,
                _EPERM,
                arguments=(Argument(0, _INT, Operator.MASKED_EQ, family),),
            )
            for family in _CLOSED_FAMILIES
        ),
        Rule(("socket",), Action.ALLOW),
    ]
    if not socketcall:
        rules.append(Rule(("socketcall",), Action.ERRNO, _ENOSYS))
    return Profile(
        Action.ERRNO,
        _EPERM,
        tuple(rules),
        {
            "SCMP_ARCH_X86_64": ("SCMP_ARCH_X86", "SCMP_ARCH_X32"),
            "SCMP_ARCH_AARCH64": (),
        },
    )
