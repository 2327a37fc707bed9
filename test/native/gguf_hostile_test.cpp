// Hostile GGUF files: each must give an Error with the right code, whose message names the field.
#include <functional>

#include "test/native/check.h"
#include "test/native/gguf_writer.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

constexpr uint32_t F32 = 0, F16 = 1, Q4_0 = 2, Q4_K = 12;
constexpr uint64_t two31 = uint64_t(1) << 31, two32 = uint64_t(1) << 32, two63 = uint64_t(1) << 63;
constexpr uint64_t minus1 = ~uint64_t(0);
const GgufType U8 = GgufType::u8, I32 = GgufType::i32, FLOAT = GgufType::f32, BOOL = GgufType::boolean,
               STRING = GgufType::string, ARRAY = GgufType::array, U64 = GgufType::u64;

// One of everything; valid.
GgufBytes good() {
  GgufBytes file;
  file.entries = {
      entry_text("general.architecture", "llama"),
      entry_u32("general.alignment", 32),
      entry("a.u8", GgufType::u8, u8(200)),
      entry("a.i8", GgufType::i8, u8(200)),
      entry("a.u16", GgufType::u16, u16(60000)),
      entry("a.i16", GgufType::i16, u16(60000)),
      entry("a.i32", GgufType::i32, u32(4000000000u)),
      entry("a.f32", GgufType::f32, f32(1.5f)),
      entry("a.bool", GgufType::boolean, u8(1)),
      entry("a.u64", GgufType::u64, u64(two63)),
      entry("a.i64", GgufType::i64, u64(minus1)),
      entry("a.f64", GgufType::f64, f64(0.1)),
      entry_array("a.empty", STRING, 0, ""),
      entry_array("a.numbers", GgufType::u16, 3, u16(1) + u16(2) + u16(65535)),
      entry_array("a.texts", STRING, 3, text("one") + text("") + text("\xff\xfe")),
      entry_array("a.nested", ARRAY, 2, array(U8, 2, "ab") + array(STRING, 1, text("x"))),
  };
  file.tensors = {tensor("t.q", {32, 3}, Q4_0, 64), tensor("t.f", {4, 2, 1, 1}, F32, 0)};
  file.data = 64 + 3 * 18;
  return file;
}

GgufBytes with_entry(const std::string& e) {
  GgufBytes file = good();
  file.entries.push_back(e);
  return file;
}
GgufBytes with_tensor(const std::string& t, uint64_t data = 4096) {
  GgufBytes file = good();
  file.tensors = {t};
  file.data = data;
  return file;
}
GgufBytes changed(const std::function<void(GgufBytes&)>& change) {
  GgufBytes file = good();
  change(file);
  return file;
}
std::string nested_arrays(int depth) {
  std::string inner = array(U8, 1, "x");
  for (int i = 1; i < depth; ++i) inner = array(ARRAY, 1, inner);
  return inner;
}

struct Row {
  const char* what;
  std::string bytes;
  Code code;
  std::vector<std::string> message;  // each stands in it
};

std::vector<Row> rows() {
  const Code invalid = Code::gguf_invalid, truncated = Code::gguf_truncated, magic = Code::gguf_magic,
             version = Code::gguf_version, type = Code::unsupported_type;
  const auto count_of = [](std::optional<uint64_t> tensors, std::optional<uint64_t> entries) {
    return changed([&](GgufBytes& f) { f.tensor_count = tensors, f.entry_count = entries; }).build();
  };
  const auto entry_row = [](const std::string& e) { return with_entry(e).build(); };
  const auto tensor_row = [](const std::string& t) { return with_tensor(t).build(); };
  const auto versioned = [](uint32_t v) { return changed([&](GgufBytes& f) { f.version = v; }).build(); };
  const auto raw_name = [](uint64_t length, const std::string& name) { return u64(length) + name; };
  std::vector<Row> out = {
      // The start of the file.
      {"empty file", "", truncated, {"magic"}},
      {"two bytes", "GG", truncated, {"magic"}},
      {"magic only", "GGUF", truncated, {"version"}},
      {"other magic", "GGUX" + good().build().substr(4), magic, {"\"GGUX\"", "expected \"GGUF\""}},
      {"one wrong byte", "X", magic, {"\"X\""}},
      {"old GGML file", "tjgg" + u32(3), magic, {"convert"}},
      {"Git LFS pointer", "version https://git-lfs", magic, {"git lfs pull"}},
      {"web page", "<!DOCTYPE html>", magic, {"web page"}},
      {"zip archive", "PK\3\4rest", magic, {"zip"}},
      {"control characters as magic", std::string("\0\1\2\3", 4), magic, {"\\x00\\x01"}},
      {"version 0", versioned(0), version, {"version", "is 0", "expected 2 or 3"}},
      {"version 1", versioned(1), version, {"version", "is 1", "convert"}},
      {"version 4", versioned(4), version, {"version", "is 4", "newer"}},
      {"version 2^31", versioned(0x80000001u), version, {"newer"}},
      {"big-endian version 3", versioned(0x03000000u), version, {"big-endian"}},
      {"big-endian version 2", versioned(0x02000000u), version, {"big-endian"}},
      // Counts.
      {"one tensor too many", count_of(3, {}), invalid, {"tensor name[2]"}},
      {"one entry too many", count_of({}, 17), invalid, {"tensor name[0]"}},
      {"2^31 tensors", count_of(two31, {}), invalid, {"tensor_count", "2147483648"}},
      {"2^32 tensors", count_of(two32, {}), invalid, {"tensor_count", "4294967296"}},
      {"2^63 tensors", count_of(two63, {}), invalid, {"tensor_count", "9223372036854775808"}},
      {"-1 tensors", count_of(minus1, {}), invalid, {"tensor_count"}},
      {"2^31 entries", count_of({}, two31), invalid, {"metadata_kv_count", "2147483648"}},
      {"2^63 entries", count_of({}, two63), invalid, {"metadata_kv_count"}},
      {"-1 entries", count_of({}, minus1), invalid, {"metadata_kv_count"}},
      {"a thousand entries", count_of({}, 1000), truncated, {"metadata_kv_count"}},
      // Keys.
      {"empty key", entry_row(entry_u32("", 1)), invalid, {"metadata key[16]", "empty"}},
      {"key of 2^63 bytes", entry_row(raw_name(two63, "k")), invalid, {"metadata key[16]"}},
      {"key of 2^32 bytes", entry_row(raw_name(two32, "k")), invalid, {"metadata key[16]", "4294967296"}},
      {"key past the end", entry_row(raw_name(60000, "k")), truncated, {"metadata key[16]", "60000"}},
      {"key of 65536 bytes", entry_row(entry_u32(std::string(65536, 'k'), 1)), invalid, {"65536", "65535"}},
      {"key with a NUL", entry_row(entry_u32(std::string("a\0b", 3), 1)), invalid, {"\\x00", "UTF-8"}},
      {"key in broken UTF-8", entry_row(entry_u32("a\xc3(", 1)), invalid, {"metadata key[16]", "UTF-8"}},
      {"key in overlong UTF-8", entry_row(entry_u32("a\xc0\xaf", 1)), invalid, {"UTF-8"}},
      {"key with a surrogate", entry_row(entry_u32("\xed\xa0\x80", 1)), invalid, {"UTF-8"}},
      {"key twice", entry_row(entry_u32("a.u8", 1)), invalid, {"\"a.u8\"", "twice"}},
      // Values.
      {"value type 13", entry_row(entry("k", GgufType(13), u32(0))), invalid, {"\"k\"", "is 13", "0 to 12"}},
      {"value type 2^32-1", entry_row(entry("k", GgufType(~0u), u32(0))), invalid, {"4294967295"}},
      {"bool 2", entry_row(entry("k", BOOL, u8(2))), invalid, {"\"k\"", "is 2", "bool"}},
      {"bool 255 in an array",
       entry_row(entry_array("k", BOOL, 2, "\1\xff")),
       invalid,
       {"\"k\"[1]", "is 255"}},
      {"text of 2^63 bytes", entry_row(entry("k", STRING, u64(two63))), invalid, {"metadata value \"k\""}},
      {"text of 2^31 bytes", entry_row(entry("k", STRING, u64(two31))), invalid, {"\"k\"", "2147483648"}},
      {"text of -1 bytes", entry_row(entry("k", STRING, u64(minus1))), invalid, {"\"k\""}},
      {"text past the end", entry_row(entry("k", STRING, u64(100000))), truncated, {"\"k\"", "100000"}},
      // Arrays.
      {"array of type 13", entry_row(entry_array("k", GgufType(13), 1, "x")), invalid, {"\"k\"", "is 13"}},
      {"empty array of type 99",
       entry_row(entry_array("k", GgufType(99), 0, "")),
       invalid,
       {"\"k\"", "is 99"}},
      {"array of 2^63 u8",
       entry_row(entry_array("k", U8, two63, "")),
       invalid,
       {"\"k\"", "9223372036854775808"}},
      {"array of 2^61 u64", entry_row(entry_array("k", U64, two63 >> 2, "")), invalid, {"\"k\""}},
      {"array of 2^62 f32", entry_row(entry_array("k", FLOAT, two63 >> 1, "")), invalid, {"\"k\""}},
      {"array of 2^31 texts",
       entry_row(entry_array("k", STRING, two31, "")),
       invalid,
       {"\"k\"", "2147483648"}},
      {"array of 2^32 arrays", entry_row(entry_array("k", ARRAY, two32, "")), invalid, {"\"k\""}},
      {"array past the end", entry_row(entry_array("k", I32, 5000, "")), truncated, {"\"k\"", "20000 bytes"}},
      {"vocabulary past the end", entry_row(entry_array("k", STRING, 5000, "")), truncated, {"\"k\""}},
      {"text in array of 2^40",
       entry_row(entry_array("k", STRING, 1, u64(1ull << 40))),
       invalid,
       {"\"k\"[0]"}},
      {"text in array past the end",
       entry_row(entry_array("k", STRING, 2, text("a") + u64(99999))),
       truncated,
       {"\"k\"[1]", "99999"}},
      {"arrays nested 5 deep", entry_row(entry("k", ARRAY, nested_arrays(5))), invalid, {"\"k\"", "nested"}},
      {"arrays nested 10000 deep", entry_row(entry("k", ARRAY, nested_arrays(10000))), invalid, {"nested"}},
      // Alignment.
      {"alignment 0",
       changed([](GgufBytes& f) { f.entries[1] = entry_u32("general.alignment", 0); }).build(),
       invalid,
       {"\"general.alignment\"", "is 0", "multiple of 8"}},
      {"alignment 7",
       changed([](GgufBytes& f) { f.entries[1] = entry_u32("general.alignment", 7); }).build(),
       invalid,
       {"\"general.alignment\"", "is 7"}},
      {"alignment 2^31",
       changed([](GgufBytes& f) { f.entries[1] = entry_u32("general.alignment", 1u << 31); }).build(),
       invalid,
       {"\"general.alignment\"", "2147483648"}},
      {"alignment is text",
       changed([](GgufBytes& f) { f.entries[1] = entry_text("general.alignment", "32"); }).build(),
       invalid,
       {"\"general.alignment\"", "string"}},
      {"alignment is negative",
       changed([](GgufBytes& f) { f.entries[1] = entry("general.alignment", I32, u32(~31u)); }).build(),
       invalid,
       {"\"general.alignment\"", "i32"}},
      // Tensors.
      {"tensor without a name", tensor_row(tensor("", {32}, F32, 0)), invalid, {"tensor name[0]", "empty"}},
      {"tensor name of 65 bytes",
       tensor_row(tensor(std::string(65, 't'), {32}, F32, 0)),
       invalid,
       {"65", "64"}},
      {"tensor name of 2^63 bytes", tensor_row(raw_name(two63, "t")), invalid, {"tensor name[0]"}},
      {"tensor name with a newline", tensor_row(tensor("a\nb", {32}, F32, 0)), invalid, {"\\x0a"}},
      {"tensor twice",
       changed([](GgufBytes& f) {
         f.tensors[1] = tensor("t.q", {4, 2}, F32, 0);
       }).build(),
       invalid,
       {"\"t.q\"", "twice"}},
      {"no dimensions", tensor_row(tensor("t", {}, F32, 0)), invalid, {"n_dims", "\"t\"", "is 0", "1 to 4"}},
      {"five dimensions", tensor_row(tensor("t", {1, 1, 1, 1, 1}, F32, 0)), invalid, {"\"t\"", "is 5"}},
      {"2^31 dimensions", tensor_row(text("t") + u32(1u << 31)), invalid, {"\"t\"", "2147483648"}},
      {"dimension 0", tensor_row(tensor("t", {32, 0}, F32, 0)), invalid, {"\"t\"[1]", "is 0"}},
      {"dimension -1", tensor_row(tensor("t", {32, minus1}, F32, 0)), invalid, {"\"t\"[1]", "2^63"}},
      {"dimension 2^63", tensor_row(tensor("t", {two63}, F32, 0)), invalid, {"\"t\"[0]", "2^63"}},
      {"product 2^64", tensor_row(tensor("t", {two32, two32}, F32, 0)), invalid, {"\"t\"[1]", "2^63"}},
      {"product 2^64 of four",
       tensor_row(tensor("t", {65536, 65536, 65536, 65536}, F32, 0)),
       invalid,
       {"\"t\"[3]"}},
      {"2^63 bytes", tensor_row(tensor("t", {two31, two31}, F32, 0)), invalid, {"\"t\"", "2^63 bytes"}},
      {"2^62 bytes",
       tensor_row(tensor("t", {two31, two31 / 4}, F32, 0)),
       truncated,
       {"\"t\"", "the file has"}},
      {"row of half a block",
       tensor_row(tensor("t", {16, 2}, Q4_0, 0)),
       invalid,
       {"\"t\"[0]", "multiple of 32"}},
      {"row of 576 in Q4_K", tensor_row(tensor("t", {576}, Q4_K, 0)), invalid, {"\"t\"", "256", "Q4_K"}},
      {"removed type 4", tensor_row(tensor("t", {32}, 4, 0)), type, {"\"t\"", "is 4", "removed"}},
      {"integer tensor", tensor_row(tensor("t", {32}, 26, 0)), type, {"\"t\"", "is 26", "integers"}},
      {"type 41", tensor_row(tensor("t", {32}, 41, 0)), type, {"\"t\"", "is 41"}},
      {"type 2^31", tensor_row(tensor("t", {32}, 1u << 31, 0)), type, {"\"t\"", "2147483648"}},
      {"offset off the alignment",
       tensor_row(tensor("t", {32}, F32, 8)),
       invalid,
       {"offset", "\"t\"", "is 8", "32"}},
      {"offset 2^63", tensor_row(tensor("t", {32}, F32, two63)), truncated, {"\"t\"", "the file has"}},
      {"offset 2^64-32", tensor_row(tensor("t", {32}, F32, minus1 - 31)), invalid, {"offset", "2^64"}},
      {"tensor past the end", tensor_row(tensor("t", {32, 100}, F32, 0)), truncated, {"\"t\"", "download"}},
      {"last byte missing", with_tensor(tensor("t", {32, 32}, F32, 0), 4095).build(), truncated, {"\"t\""}},
      {"no data section", with_tensor(tensor("t", {32}, F32, 0), 0).build(), truncated, {"\"t\""}},
      {"tensors overlap",
       changed([](GgufBytes& f) {
         f.tensors[1] = tensor("t.f", {8, 3}, F32, 0);
       }).build(),
       invalid,
       {"offset", "\"t.q\"", "overlaps", "\"t.f\"", "at least 96"}},
      {"tensors at the same place",
       changed([](GgufBytes& f) { f.tensors[1] = tensor("t.f", {4}, F16, 64); }).build(),
       invalid,
       {"overlaps"}},
  };
  return out;
}

}  // namespace

TEST(the_good_file_is_good) {
  for (const uint32_t version : {2u, 3u}) {
    const auto file = open_in_memory(changed([&](GgufBytes& f) { f.version = version; }).build());
    CHECK_EQ(file->version(), version);
    CHECK_EQ(file->tensors().size(), size_t(2));
    exercise(*file);
  }
}

TEST(hostile_files_give_errors_that_name_the_field) {
  const std::vector<Row> all = rows();
  CHECK(all.size() >= 60);
  for (const Row& row : all) {
    std::vector<std::string> parts = row.message;
    parts.push_back("m.gguf: ");
    check_error(row.what, row.code, parts, [&] { open_in_memory(row.bytes); });
  }
}

TEST(a_file_cut_anywhere_is_truncated) {
  const std::string whole = good().build();
  for (size_t length = 0; length < whole.size(); ++length) {
    check_error("cut at " + std::to_string(length), Code::gguf_truncated, {},
                [&] { open_in_memory(whole.substr(0, length)); });
  }
}

TEST(a_file_with_any_byte_changed_does_no_harm) {
  const std::string whole = good().build();
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int value : {0, 1, 0x7f, 0x80, 0xff, whole[i] + 1, whole[i] - 1, whole[i] ^ 0x20}) {
      std::string bytes = whole;
      bytes[i] = char(value);
      try {
        exercise(*open_in_memory(bytes));
      } catch (const Error& e) {
        if (e.code() == Code::internal) fail(__FILE__, __LINE__, e.message());
      }
    }
  }
}

TEST(a_sparse_file_takes_no_memory_for_its_size) {
  const auto open_sparse = [](const std::string& bytes) {
    return open_gguf("m.gguf", [&](const std::string& name) {
      return std::make_unique<MemorySource>(name, bytes, uint64_t(1) << 42);
    });
  };
  const std::string huge = good().build().substr(0, 8) + u64(0) + u64(1);
  check_error("array", Code::gguf_invalid, {"\"k\"", "MB"},
              [&] { open_sparse(huge + entry_array("k", U8, uint64_t(1) << 40, "")); });
  check_error("texts", Code::gguf_invalid, {"\"k\"", "MB"},
              [&] { open_sparse(huge + entry_array("k", STRING, uint64_t(1) << 36, "")); });
  check_error("arrays", Code::gguf_invalid, {"\"k\"", "number of arrays"},
              [&] { open_sparse(huge + entry_array("k", ARRAY, 1 << 21, "")); });
  check_error("tensors", Code::gguf_invalid, {"tensor_count"},
              [&] { open_sparse(good().build().substr(0, 8) + u64(1u << 30) + u64(0)); });
}
