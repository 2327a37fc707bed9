"""Gives 64-bit ELF libraries their relative relocations as a plain table, in place: python3 plain-relocations.py FILE…

musl before 1.2.4, as in Debian 12, overlooks the compact table (DT_RELR) that newer systems' libraries have. The
plain one goes to the end of the file, into a segment whose header is that of a note.
"""
import struct
import sys

LOAD, DYNAMIC, NOTE, PROPERTY = 1, 2, 4, 0x6474E553
RELA, RELASZ, RELRSZ, RELR, RELRENT = 7, 8, 35, 36, 37
RELACOUNT, UNKNOWN = 0x6FFFFFF9, 0x6FFFFEFE
RELATIVE = {62: 8, 183: 1027}  # by e_machine: R_X86_64_RELATIVE, R_AARCH64_RELATIVE
PAGE = 4096
HEADER, ENTRY = "<IIQQQQQQ", "<QQ"


def pages(count):
    return (count + PAGE - 1) // PAGE * PAGE


def places(words):
    """The addresses that a compact table names: one, or a bitmap of the 63 words that follow."""
    base = 0
    for (word,) in struct.iter_unpack("<Q", words):
        if word & 1 == 0:
            yield word
            base = word + 8
        else:
            yield from (base + 8 * i for i in range(63) if word >> (i + 1) & 1)
            base += 63 * 8


def rewrite(path):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    (machine,), (table_at,), (count,) = (struct.unpack_from(*at) for at in (("<H", data, 18), ("<Q", data, 32), ("<H", data, 56)))
    headers = [
        (at, struct.unpack_from(HEADER, data, at))
        for at in range(table_at, table_at + 56 * count, 56)
    ]
    segments = [segment for _, segment in headers if segment[0] == LOAD]

    def offset(address):
        return next(s[2] + address - s[3] for s in segments if s[3] <= address < s[3] + s[5])

    dynamic = next(segment for _, segment in headers if segment[0] == DYNAMIC)
    entries = {}
    for at in range(dynamic[2], dynamic[2] + dynamic[5], 16):
        tag, value = struct.unpack_from(ENTRY, data, at)
        entries.setdefault(tag, (at, value))
    if RELR not in entries:
        return
    compact, plain = offset(entries[RELR][1]), offset(entries[RELA][1])
    table = b"".join(
        struct.pack("<QQ", place, RELATIVE[machine]) + data[offset(place) : offset(place) + 8]
        for place in places(data[compact : compact + entries[RELRSZ][1]])
    )
    table += data[plain : plain + entries[RELASZ][1]]

    at, address = pages(len(data)), pages(max(s[3] + s[6] for s in segments))
    data += bytes(at - len(data)) + table
    spare = next(where for where, segment in headers if segment[0] in (PROPERTY, NOTE))
    struct.pack_into(HEADER, data, spare, LOAD, 4, at, address, address, len(table), len(table), PAGE)
    struct.pack_into(ENTRY, data, entries[RELA][0], RELA, address)
    struct.pack_into(ENTRY, data, entries[RELASZ][0], RELASZ, len(table))
    for tag in (RELR, RELRSZ, RELRENT, RELACOUNT):
        if tag in entries:
            struct.pack_into(ENTRY, data, entries[tag][0], UNKNOWN, 0)
    with open(path, "wb") as file:
        file.write(data)


for name in sys.argv[1:]:
    rewrite(name)
