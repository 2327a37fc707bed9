"""Leaves a Mach-O library no exports but those named, and nothing that it shares with other images by name, in place:
python3 narrow-exports.py FILE SYMBOL…

zig's linker exports what libc++ holds visible (operator new and its kin) and symbols of its own, and overlooks
-exported_symbols_list. The trie of exports (Apple's loader.h, LC_DYLD_INFO_ONLY) is written anew in the place of the
old one, and the hashes of the pages in the signature after it (cs_blobs.h).
"""
import hashlib
import struct
import sys

SYMTAB, CODE_SIGNATURE, DYLD_INFO_ONLY = 0x2, 0x1D, 0x80000022
WEAK_DEFINES, BINDS_TO_WEAK = 0x8000, 0x10000  # flags of mach_header_64
EXTERNAL, PRIVATE_EXTERNAL, SECTION, KIND = 0x1, 0x10, 0xE, 0xE  # n_type of nlist_64


def commands(data):
    (count,) = struct.unpack_from("<I", data, 16)
    at = 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", data, at)
        yield kind, at
        at += size


def uleb(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def to_uleb(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def exports(trie, at=0, name=b""):
    """Names and what the trie says of them, as bytes."""
    size, at = uleb(trie, at)
    if size > 0:
        yield name, trie[at : at + size]
    at += size
    count = trie[at]
    at += 1
    for _ in range(count):
        end = trie.index(0, at)
        child, after = uleb(trie, end + 1)
        yield from exports(trie, child, name + trie[at:end])
        at = after


def make_trie(entries):
    """A root with one leaf for each name; none may begin with another's whole name, nor two alike."""
    leaves = [(name, to_uleb(len(what)) + what + b"\0") for name, what in entries]
    size = 2 + sum(len(name) + 2 for name, _ in leaves)
    offset = size
    root = bytearray([0, len(leaves)])
    for name, leaf in leaves:
        if offset >= 0x80:
            raise ValueError("the trie is too large for offsets of one byte")
        root += name + b"\0" + to_uleb(offset)
        offset += len(leaf)
    return bytes(root) + b"".join(leaf for _, leaf in leaves)


def sign(data, at):
    """Renews the hashes of the signature at `at`."""
    (count,) = struct.unpack_from(">I", data, at + 8)
    blobs = [struct.unpack_from(">II", data, at + 12 + 8 * i) for i in range(count)]
    directory = at + next(offset for kind, offset in blobs if kind == 0)
    hashes, slots, limit = (struct.unpack_from(">I", data, directory + field)[0] for field in (16, 28, 32))
    size, kind, _, bits = struct.unpack_from(">4B", data, directory + 36)
    if (size, kind) != (32, 2):
        raise ValueError("the signature's hashes are not SHA-256")
    for slot in range(slots):
        page = data[slot << bits : min((slot + 1) << bits, limit)]
        struct.pack_into("32s", data, directory + hashes + 32 * slot, hashlib.sha256(page).digest())


def narrow(path, kept):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    places = dict(commands(data))
    info, symbols = places[DYLD_INFO_ONLY], places[SYMTAB]
    start, size = struct.unpack_from("<II", data, info + 40)
    found = dict(exports(bytes(data[start : start + size])))
    trie = make_trie([(name, found[name]) for name in kept])
    data[start : start + size] = trie + bytes(size - len(trie))
    # Of inline functions and the like, which other images have too, one image's would serve all of them: here the
    # system's libc++ of another version. Pointers to our own stand in their places already.
    weak, size = struct.unpack_from("<II", data, info + 24)
    data[weak : weak + size] = bytes(size)
    struct.pack_into("<II", data, info + 24, 0, 0)
    (flags,) = struct.unpack_from("<I", data, 24)
    struct.pack_into("<I", data, 24, flags & ~(WEAK_DEFINES | BINDS_TO_WEAK))
    first, count, texts = struct.unpack_from("<III", data, symbols + 8)
    for at in range(first, first + 16 * count, 16):
        text, kind = struct.unpack_from("<IB", data, at)
        name = bytes(data[texts + text : data.index(0, texts + text)])
        if kind & EXTERNAL and kind & KIND == SECTION and name not in kept:
            data[at + 4] = kind & ~EXTERNAL | PRIVATE_EXTERNAL
    if CODE_SIGNATURE in places:  # on arm64, which demands one
        (signature,) = struct.unpack_from("<I", data, places[CODE_SIGNATURE] + 8)
        sign(data, signature)
    with open(path, "wb") as file:
        file.write(data)


narrow(sys.argv[1], sorted(b"_" + name.encode() for name in sys.argv[2:]))
