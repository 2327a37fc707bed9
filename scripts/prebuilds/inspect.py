"""Prints what stands in binaries, as one JSON list: python3 inspect.py FILE…

LIEF reads the formats; the hashes of a Mach-O signature are computed here. Imports are "name@where": the version of an ELF
symbol, the library of others; a name alone is looked up wherever it is to be found.
"""
import hashlib
import json
import struct
import sys

import lief

def elf(path):
    binary = lief.ELF.parse(path)
    flags = binary.get(lief.ELF.DynamicEntry.TAG.FLAGS_1)
    stack = binary.get(lief.ELF.Segment.TYPE.GNU_STACK)
    return {
        "format": "ELF",
        "machine": binary.header.machine_type.name,
        "exports": [symbol.name for symbol in binary.exported_symbols],
        "libraries": list(binary.libraries),
        "imports": [
            f"{symbol.name}@{symbol.symbol_version.symbol_version_auxiliary.name}"
            if symbol.has_version and symbol.symbol_version.has_auxiliary_version
            else symbol.name
            for symbol in binary.imported_symbols
        ],
        "versions": [
            auxiliary.name
            for library in binary.symbols_version_requirement
            for auxiliary in library.get_auxiliary_symbols()
        ],
        "symbols": len(binary.symtab_symbols),
        "searchPath": binary.has(lief.ELF.DynamicEntry.TAG.RUNPATH) or binary.has(lief.ELF.DynamicEntry.TAG.RPATH),
        "noDelete": flags is not None and lief.ELF.DynamicEntryFlags.FLAG.NODELETE in flags.flags,
        "executableStack": stack is None or lief.ELF.Segment.FLAGS.X in lief.ELF.Segment.FLAGS(stack.flags),
    }


def signature(data, blob):
    """Whether the pages of the file have the hashes that its signature gives (Apple's cs_blobs.h)."""
    magic, _, count = struct.unpack_from(">III", blob)
    if magic != 0xFADE0CC0:
        return {"valid": False}
    at = next(
        offset
        for kind, offset in (struct.unpack_from(">II", blob, 12 + 8 * i) for i in range(count))
        if kind == 0  # the code directory
    )
    magic, _, _, flags, hashes, _, _, slots, limit = struct.unpack_from(">9I", blob, at)
    hash_size, hash_type, _, page_bits = struct.unpack_from(">4B", blob, at + 36)
    page = 1 << page_bits
    pages = [data[i : min(i + page, limit)] for i in range(0, limit, page)]
    stored = [blob[at + hashes + hash_size * i :][:hash_size] for i in range(slots)]
    sha256 = hash_type == 2 and hash_size == 32
    return {
        "valid": magic == 0xFADE0C02 and sha256 and stored == [hashlib.sha256(p).digest() for p in pages],
        "adHoc": flags & 2 != 0,
        "limit": limit,
    }


def mach_o(path):
    binary = lief.MachO.parse(path).at(0)
    data = open(path, "rb").read()
    version = binary.build_version
    signed = binary.code_signature
    libraries = [c.name for c in binary.libraries if c.command.name != "ID_DYLIB"]

    def imported(symbol):
        ordinal = symbol.description >> 8 & 0xFF  # GET_LIBRARY_ORDINAL of <mach-o/nlist.h>
        return f"{symbol.name}@{libraries[ordinal - 1]}" if 0 < ordinal <= len(libraries) else symbol.name

    return {
        "format": "MACHO",
        "machine": binary.header.cpu_type.name,
        "type": binary.header.file_type.name,
        "exports": [symbol.name for symbol in binary.exported_symbols],
        "libraries": libraries,
        "imports": [imported(symbol) for symbol in binary.imported_symbols],
        # Debugging entries, and names of our own; the linker's stubs stay.
        "symbols": len([s for s in binary.symbols if s.raw_type & 0xE0 or (s.raw_type & 0xE and "inhouse" in s.name)]),
        "name": next(c.name for c in binary.commands if c.command.name == "ID_DYLIB"),
        "commands": [command.command.name for command in binary.commands],
        "platform": version.platform.name,
        "oldestSystem": ".".join(map(str, version.minos[:2])),
        "uuid": bytes(binary.uuid.uuid).hex(),
        "searchPath": any("RPATH" in command.command.name for command in binary.commands),
        "signature": None if signed is None else {
            "offset": signed.data_offset,
            **signature(data, data[signed.data_offset :][: signed.data_size]),
        },
    }


def pe(path):
    binary = lief.PE.parse(path)
    return {
        "format": "PE",
        "machine": binary.header.machine.name,
        "exports": [entry.name for entry in binary.exported_functions],
        "libraries": [library.name for library in binary.imports],
        "imports": [f"{entry.name}@{library.name}" for library in binary.imports for entry in library.entries],
        "delayed": [library.name for library in binary.delay_imports],
        "symbols": binary.header.numberof_symbols,
        "timestamps": [binary.header.time_date_stamps]
        + ([binary.get_export().timestamp] if binary.has_exports else [])
        + [entry.timestamp for entry in binary.debug],
        "characteristics": [flag.name for flag in binary.optional_header.dll_characteristics_lists],
        "reproducible": any(entry.type.name == "REPRO" for entry in binary.debug),
    }


readers = {lief.is_elf: elf, lief.is_macho: mach_o, lief.is_pe: pe}
json.dump([next(read for known, read in readers.items() if known(path))(path) for path in sys.argv[1:]], sys.stdout)
