"""The program that `init: true` leaves as a container's first process: it hands signals on to the
payload and reaps. An interpreter that stays for that holds 3 MB a container; this, 20 kB.

It is written out here as machine code, for a compiler is not there where an engine starts. Called
as `pycompose-init PID`, child PID being the payload, every signal blocked, it does this:

    prctl(PR_SET_NAME, argv[0])
    while True:
        number = rt_sigtimedwait(every signal)     # again if it was interrupted
        if number != SIGCHLD:
            kill(PID, number)
            continue
        while (pid := wait4(-1, &status, WNOHANG)) != 0:
            if pid < 0: exit(1)                     # no child is left
            if pid == PID: exit(status as shells tell it)
"""

import os
import struct

from engine.runtime import channel

NAME = "pycompose-init"

# Where the spawner keeps it and a first process finds it, as execve takes all memory away and a
# container's files must not matter.
DESCRIPTOR = 4

# Each line is one instruction: its bytes, then a label, then what `as` makes these bytes from.
_X86_64 = """
    bf0f000000             mov edi,15
    488b742408             mov rsi,[rsp+8]
    b89d000000             mov eax,157
    0f05                   syscall
    488b742410             mov rsi,[rsp+16]
    4531e4                 xor r12d,r12d
    0fb606         digit   movzx eax,byte ptr [rsi]
    48ffc6                 inc rsi
    83e830                 sub eax,48
    7209                   jb parsed
    456be40a               imul r12d,r12d,10
    4101c4                 add r12d,eax
    ebec                   jmp digit
    6aff           parsed  push -1
    6a00                   push 0
    488d7c2408     wait    lea rdi,[rsp+8]
    31f6                   xor esi,esi
    31d2                   xor edx,edx
    41ba08000000           mov r10d,8
    b880000000             mov eax,128
    0f05                   syscall
    85c0                   test eax,eax
    78e6                   js wait
    83f811                 cmp eax,17
    740e                   je reap
    4489e7                 mov edi,r12d
    89c6                   mov esi,eax
    b83e000000             mov eax,62
    0f05                   syscall
    ebd3                   jmp wait
    bfffffffff     reap    mov edi,-1
    4889e6                 mov rsi,rsp
    ba01000000             mov edx,1
    4531d2                 xor r10d,r10d
    b83d000000             mov eax,61
    0f05                   syscall
    85c0                   test eax,eax
    74b8                   jz wait
    781e                   js alone
    4439e0                 cmp eax,r12d
    75de                   jne reap
    8b3c24                 mov edi,[rsp]
    89f9                   mov ecx,edi
    83e17f                 and ecx,127
    7408                   jz exited
    8db980000000           lea edi,[rcx+128]
    eb0c                   jmp end
    0fb67c2401     exited  movzx edi,byte ptr [rsp+1]
    eb05                   jmp end
    bf01000000     alone   mov edi,1
    b8e7000000     end     mov eax,231
    0f05                   syscall
"""

_AARCH64 = """
    e00180d2               mov x0,#15
    e10740f9               ldr x1,[sp,#8]
    e81480d2               mov x8,#167
    010000d4               svc #0
    e10b40f9               ldr x1,[sp,#16]
    13008052               mov w19,#0
    42018052               mov w2,#10
    20144038       digit   ldrb w0,[x1],#1
    00c00071               subs w0,w0,#48
    63000054               b.lo parsed
    7302021b               madd w19,w19,w2,w0
    fcffff17               b digit
    00008092       parsed  mov x0,#-1
    e07fbfa9               stp x0,xzr,[sp,#-16]!
    e0030091       wait    mov x0,sp
    010080d2               mov x1,#0
    020080d2               mov x2,#0
    030180d2               mov x3,#8
    281180d2               mov x8,#137
    010000d4               svc #0
    40ffff37               tbnz w0,#31,wait
    1f440071               cmp w0,#17
    c0000054               b.eq reap
    e103002a               mov w1,w0
    e003132a               mov w0,w19
    281080d2               mov x8,#129
    010000d4               svc #0
    f3ffff17               b wait
    00008092       reap    mov x0,#-1
    e1230091               add x1,sp,#8
    220080d2               mov x2,#1
    030080d2               mov x3,#0
    882080d2               mov x8,#260
    010000d4               svc #0
    80fdff34               cbz w0,wait
    4001f837               tbnz w0,#31,alone
    1f00136b               cmp w0,w19
    e1feff54               b.ne reap
    e00b40b9               ldr w0,[sp,#8]
    01180072               ands w1,w0,#127
    60000054               b.eq exited
    20000211               add w0,w1,#128
    04000014               b end
    003c0853       exited  ubfx w0,w0,#8,#8
    02000014               b end
    20008052       alone   mov w0,#1
    c80b80d2       end     mov x8,#94
    010000d4               svc #0
"""

_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}  # e_machine of ELF

_ADDRESS = 0x400000
_LARGEST_PAGE = 0x10000  # of all that the two have
_HEADER = struct.Struct("<4s5B7x2HI3QI6H")
_SEGMENT = struct.Struct("<2I6Q")


def program(machine: str) -> bytes:
    """A static executable. KeyError: not for this machine."""
    number, listing = _MACHINES[machine]
    code = b"".join(bytes.fromhex(line.split()[0]) for line in listing.strip().splitlines())
    begin = _HEADER.size + 2 * _SEGMENT.size
    size = begin + len(code)
    header = _HEADER.pack(
        *(b"\x7fELF", 2, 1, 1, 0, 0),  # 64 bits, little endian
        *(2, number, 1, _ADDRESS + begin, _HEADER.size, 0, 0),  # executable, at a fixed address
        *(_HEADER.size, _SEGMENT.size, 2, 0, 0, 0),
    )
    readable_and_executable, readable_and_writable = 5, 6
    loaded = _SEGMENT.pack(
        1, readable_and_executable, 0, _ADDRESS, _ADDRESS, size, size, _LARGEST_PAGE
    )
    stack = _SEGMENT.pack(0x6474E551, readable_and_writable, *(0,) * 5, 16)
    return header + loaded + stack + code


def keep() -> None:
    """Put it, sealed, behind DESCRIPTOR."""
    document = channel.write_document(program(os.uname().machine), name=NAME)
    # As any user of a container.
    os.fchmod(document, 0o555)
    if document != DESCRIPTOR:
        os.dup2(document, DESCRIPTOR, inheritable=False)
        os.close(document)


def become(payload: int) -> None:
    """Returns never; OSError: the kernel does not let it."""
    os.execve(DESCRIPTOR, (NAME, str(payload)), {})
