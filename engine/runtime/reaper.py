"""The program that `init: true` leaves as a container's first process: it starts the payload,
hands signals on to it and reaps. An interpreter that stays for that holds 3 MB a container, and
takes 1 to 2 ms for its fork; this holds 20 kB.

It is written out here as machine code, for a compiler is not there where an engine starts. Called
as `pycompose-init PROGRAM ARGV0 ARGV1…` with every signal blocked and the supervisor's socket as
descriptor 3, it does this:

    prctl(PR_SET_NAME, argv[0])
    PID = clone(CLONE_VM)
    if child:                                       # on the same memory: its stack it only reads
        while it is not 1: sched_yield()
        setpgid(0, 0); ioctl(0, TIOCSPGRP, getpid())    # so that Ctrl-C reaches the payload once
        fcntl(3, F_SETFD, FD_CLOEXEC); rt_sigprocmask(none)
        execve(PROGRAM, [ARGV0, ARGV1…], environment)
        write(3, '{"state":"e002"}'); exit(126)     # here with 2 for errno; also if clone failed
    close(3); it = 1                                # nothing is left to be found by the payload
    while True:
        number = rt_sigtimedwait(every signal)      # again if it was interrupted
        if number != SIGCHLD:
            kill(PID, number)
            continue
        while (pid := wait4(-1, &status, WNOHANG)) != 0:
            if pid < 0: exit(1)                     # no child is left
            if pid == PID: exit(status as shells tell it)
"""

import os
from collections.abc import Mapping, Sequence

from engine.kernel import machine_code
from engine.runtime import channel

NAME = "pycompose-init"

# Where the spawner keeps it and a first process finds it, as execve takes all memory away and a
# container's files must not matter.
DESCRIPTOR = 4
SUPERVISOR = 3

_X86_64 = """
    bf0f000000                     mov edi,15
    488b742408                     mov rsi,[rsp+8]
    b89d000000                     mov eax,157
    0f05                           syscall
    4889e3                         mov rbx,rsp
    6aff                           push -1
    6a00                           push 0
    6a00                           push 0
    6a00                           push 0
    6a00                           push 0
    bf11010000                     mov edi,0x111
    31f6                           xor esi,esi
    31d2                           xor edx,edx
    4531d2                         xor r10d,r10d
    4531c0                         xor r8d,r8d
    b838000000                     mov eax,56
    0f05                           syscall
    85c0                           test eax,eax
    0f880e010000                   js failed
    0f8492000000                   jz payload
    4189c4                         mov r12d,eax
    bf03000000                     mov edi,3
    b803000000                     mov eax,3
    0f05                           syscall
    c744240801000000               mov dword ptr [rsp+8],1
    488d7c2420             wait    lea rdi,[rsp+32]
    31f6                           xor esi,esi
    31d2                           xor edx,edx
    41ba08000000                   mov r10d,8
    b880000000                     mov eax,128
    0f05                           syscall
    85c0                           test eax,eax
    78e6                           js wait
    83f811                         cmp eax,17
    740e                           je reap
    4489e7                         mov edi,r12d
    89c6                           mov esi,eax
    b83e000000                     mov eax,62
    0f05                           syscall
    ebd3                           jmp wait
    bfffffffff             reap    mov edi,-1
    4889e6                         mov rsi,rsp
    ba01000000                     mov edx,1
    4531d2                         xor r10d,r10d
    b83d000000                     mov eax,61
    0f05                           syscall
    85c0                           test eax,eax
    74b8                           jz wait
    781e                           js alone
    4439e0                         cmp eax,r12d
    75de                           jne reap
    8b3c24                         mov edi,[rsp]
    89f9                           mov ecx,edi
    83e17f                         and ecx,127
    7408                           jz exited
    8db980000000                   lea edi,[rcx+128]
    eb0c                           jmp end
    0fb67c2401             exited  movzx edi,byte ptr [rsp+1]
    eb05                           jmp end
    bf01000000             alone   mov edi,1
    b8e7000000             end     mov eax,231
    0f05                           syscall
    b818000000             yield   mov eax,24
    0f05                           syscall
    837c240800             payload cmp dword ptr [rsp+8],0
    74f2                           je yield
    31ff                           xor edi,edi
    31f6                           xor esi,esi
    b86d000000                     mov eax,109
    0f05                           syscall
    b827000000                     mov eax,39
    0f05                           syscall
    89442410                       mov [rsp+16],eax
    31ff                           xor edi,edi
    be10540000                     mov esi,0x5410
    488d542410                     lea rdx,[rsp+16]
    b810000000                     mov eax,16
    0f05                           syscall
    bf03000000                     mov edi,3
    be02000000                     mov esi,2
    ba01000000                     mov edx,1
    b848000000                     mov eax,72
    0f05                           syscall
    bf02000000                     mov edi,2
    488d742418                     lea rsi,[rsp+24]
    31d2                           xor edx,edx
    41ba08000000                   mov r10d,8
    b80e000000                     mov eax,14
    0f05                           syscall
    488b7b10                       mov rdi,[rbx+16]
    488d7318                       lea rsi,[rbx+24]
    488b13                         mov rdx,[rbx]
    488d54d310                     lea rdx,[rbx+rdx*8+16]
    b83b000000                     mov eax,59
    0f05                           syscall
    f7d8                   failed  neg eax
    b90a000000                     mov ecx,10
    31d2                           xor edx,edx
    f7f1                           div ecx
    4189d0                         mov r8d,edx
    31d2                           xor edx,edx
    f7f1                           div ecx
    49c1e010                       shl r8,16
    48c1e208                       shl rdx,8
    4809d0                         or rax,rdx
    4c09c0                         or rax,r8
    48c1e018                       shl rax,24
    48b93a2265303030227d           movabs rcx,0x7d2230303065223a
    4801c8                         add rax,rcx
    48b97b22737461746522           movabs rcx,0x226574617473227b
    50                             push rax
    51                             push rcx
    bf03000000                     mov edi,3
    4889e6                         mov rsi,rsp
    ba10000000                     mov edx,16
    b801000000                     mov eax,1
    0f05                           syscall
    bf7e000000                     mov edi,126
    e921ffffff                     jmp end
"""

_AARCH64 = """
    e00180d2                       mov x0,#15
    e10740f9                       ldr x1,[sp,#8]
    e81480d2                       mov x8,#167
    010000d4                       svc #0
    f4030091                       mov x20,sp
    00008092                       mov x0,#-1
    e07fbfa9                       stp x0,xzr,[sp,#-16]!
    ff7fbfa9                       stp xzr,xzr,[sp,#-16]!
    ff7fbfa9                       stp xzr,xzr,[sp,#-16]!
    f5230091                       add x21,sp,#8
    202280d2                       mov x0,#0x111
    010080d2                       mov x1,#0
    020080d2                       mov x2,#0
    030080d2                       mov x3,#0
    040080d2                       mov x4,#0
    881b80d2                       mov x8,#220
    010000d4                       svc #0
    8009f837                       tbnz w0,#31,failed
    60050034                       cbz w0,payload
    f303002a                       mov w19,w0
    600080d2                       mov x0,#3
    280780d2                       mov x8,#57
    010000d4                       svc #0
    20008052                       mov w0,#1
    a0fe9f88                       stlr w0,[x21]
    e0830091               wait    add x0,sp,#32
    010080d2                       mov x1,#0
    020080d2                       mov x2,#0
    030180d2                       mov x3,#8
    281180d2                       mov x8,#137
    010000d4                       svc #0
    40ffff37                       tbnz w0,#31,wait
    1f440071                       cmp w0,#17
    c0000054                       b.eq reap
    e103002a                       mov w1,w0
    e003132a                       mov w0,w19
    281080d2                       mov x8,#129
    010000d4                       svc #0
    f3ffff17                       b wait
    00008092               reap    mov x0,#-1
    e1030091                       mov x1,sp
    220080d2                       mov x2,#1
    030080d2                       mov x3,#0
    882080d2                       mov x8,#260
    010000d4                       svc #0
    80fdff34                       cbz w0,wait
    4001f837                       tbnz w0,#31,alone
    1f00136b                       cmp w0,w19
    e1feff54                       b.ne reap
    e00340b9                       ldr w0,[sp]
    01180072                       ands w1,w0,#127
    60000054                       b.eq exited
    20000211                       add w0,w1,#128
    04000014                       b end
    003c0853               exited  ubfx w0,w0,#8,#8
    02000014                       b end
    20008052               alone   mov w0,#1
    c80b80d2               end     mov x8,#94
    010000d4                       svc #0
    880f80d2               yield   mov x8,#124
    010000d4                       svc #0
    a0fedf88               payload ldar w0,[x21]
    a0ffff34                       cbz w0,yield
    000080d2                       mov x0,#0
    010080d2                       mov x1,#0
    481380d2                       mov x8,#154
    010000d4                       svc #0
    881580d2                       mov x8,#172
    010000d4                       svc #0
    e01300b9                       str w0,[sp,#16]
    000080d2                       mov x0,#0
    01828ad2                       mov x1,#0x5410
    e2430091                       add x2,sp,#16
    a80380d2                       mov x8,#29
    010000d4                       svc #0
    600080d2                       mov x0,#3
    410080d2                       mov x1,#2
    220080d2                       mov x2,#1
    280380d2                       mov x8,#25
    010000d4                       svc #0
    400080d2                       mov x0,#2
    e1630091                       add x1,sp,#24
    020080d2                       mov x2,#0
    030180d2                       mov x3,#8
    e81080d2                       mov x8,#135
    010000d4                       svc #0
    800a40f9                       ldr x0,[x20,#16]
    81620091                       add x1,x20,#24
    820240f9                       ldr x2,[x20]
    820e028b                       add x2,x20,x2,lsl #3
    42400091                       add x2,x2,#16
    a81b80d2                       mov x8,#221
    010000d4                       svc #0
    e003004b               failed  neg w0,w0
    43018052                       mov w3,#10
    0108c31a                       udiv w1,w0,w3
    2080031b                       msub w0,w1,w3,w0
    2208c31a                       udiv w2,w1,w3
    4184031b                       msub w1,w2,w3,w1
    422001aa                       orr x2,x2,x1,lsl #8
    424000aa                       orr x2,x2,x0,lsl #16
    414784d2                       movz x1,#0x223a
    a10ca6f2                       movk x1,#0x3065,lsl #16
    0106c6f2                       movk x1,#0x3030,lsl #32
    41a4eff2                       movk x1,#0x7d22,lsl #48
    2160028b                       add x1,x1,x2,lsl #24
    604f84d2                       movz x0,#0x227b
    608eaef2                       movk x0,#0x7473,lsl #16
    208ccef2                       movk x0,#0x7461,lsl #32
    a04ce4f2                       movk x0,#0x2265,lsl #48
    e007bfa9                       stp x0,x1,[sp,#-16]!
    600080d2                       mov x0,#3
    e1030091                       mov x1,sp
    020280d2                       mov x2,#16
    080880d2                       mov x8,#64
    010000d4                       svc #0
    c00f8052                       mov w0,#126
    c4ffff17                       b end
"""

_LISTINGS = {"x86_64": _X86_64, "aarch64": _AARCH64}


def program(machine: str) -> bytes:
    """A static executable. KeyError: not for this machine."""
    return machine_code.executable(machine, _LISTINGS[machine])


def keep() -> None:
    """Put it, sealed, behind DESCRIPTOR."""
    channel.keep_program(program(os.uname().machine), NAME, DESCRIPTOR)


def become(
    program: str, arguments: Sequence[str], environment: Mapping[str, str], supervisor: int
) -> None:
    """With `program` as a child; what that can't be is told by the socket `supervisor`, see
    `failure`. Returns never; OSError: the kernel does not let it."""
    if supervisor != SUPERVISOR:
        os.dup2(supervisor, SUPERVISOR)
    os.set_inheritable(SUPERVISOR, True)
    os.execve(DESCRIPTOR, (NAME, program, *arguments), environment)


def failure(state: str) -> int:
    """The errno that a message of this state tells of; 0: it is another message."""
    return int(state[1:]) if state[1:].isdecimal() else 0
