import { crc32, deflateRawSync } from "node:zlib";

/** A member of an archive to be made, with lies about it where a test wants some. */
export interface MemberSpec {
  name: string;
  data: Buffer;
  stored?: boolean;
  /** Claimed in the directory. */
  size?: number;
  compressedSize?: number;
  offset?: number;
  method?: number;
  flags?: number;
  /** Sizes and offset in the zip64 extra field. */
  zip64?: boolean;
}

/** A zip archive. `zip64` also writes the 64-bit end record. */
export function makeZip(members: MemberSpec[], { zip64 = false } = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const member of members) {
    const name = Buffer.from(member.name);
    const packed = member.stored ? member.data : deflateRawSync(member.data);
    const method = member.method ?? (member.stored ? 0 : 8);
    const [size, compressed] = [member.size ?? member.data.length, member.compressedSize ?? packed.length];
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(method, 8);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(member.flags ?? 0, 8);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(crc32(member.data), 16);
    entry.writeUInt32LE(member.zip64 ? 0xffffffff : compressed, 20);
    entry.writeUInt32LE(member.zip64 ? 0xffffffff : size, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(member.zip64 ? 0xffffffff : (member.offset ?? offset), 42);
    let extra = Buffer.alloc(0);
    if (member.zip64) {
      extra = Buffer.alloc(28);
      extra.writeUInt16LE(1, 0);
      extra.writeUInt16LE(24, 2);
      [size, compressed, member.offset ?? offset].forEach((value, i) =>
        extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i),
      );
    }
    entry.writeUInt16LE(extra.length, 30);
    directory.push(entry, name, extra);
    parts.push(local, name, packed);
    offset += 30 + name.length + packed.length;
  }
  const entries = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(zip64 ? 0xffffffff : entries.length, 12);
  end.writeUInt32LE(zip64 ? 0xffffffff : offset, 16);
  const wide: Buffer[] = [];
  if (zip64) {
    const record = Buffer.alloc(56);
    record.writeUInt32LE(0x06064b50, 0);
    record.writeBigUInt64LE(BigInt(entries.length), 40);
    record.writeBigUInt64LE(BigInt(offset), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50, 0);
    locator.writeBigUInt64LE(BigInt(offset + entries.length), 8);
    wide.push(record, locator);
  }
  return Buffer.concat([...parts, entries, ...wide, end]);
}
