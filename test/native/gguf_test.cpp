// Opening GGUF files, reading metadata and tensors, split models and overrides.
#include "native/io/gguf.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "test/native/check.h"
#include "test/native/gguf_writer.h"
#include "test/native/temp_path.h"

using namespace inhouse;
using namespace inhouse::test;

#define HERE ("line " + std::to_string(__LINE__))

namespace {

GgufBytes small() {
  GgufBytes file;
  file.entries = {
      entry_text("name", "a model"),
      entry_u32("count", 7),
      entry("negative", GgufType::i32, u32(uint32_t(-5))),
      entry("positive", GgufType::i64, u64(5)),
      entry("big", GgufType::u64, u64(~uint64_t(0))),
      entry("float", GgufType::f32, f32(0.5f)),
      entry("nan", GgufType::f32, f32(std::nanf(""))),
      entry("infinite", GgufType::f64, f64(HUGE_VAL)),
      entry("yes", GgufType::boolean, u8(1)),
      entry_array("layers", GgufType::i32, 3, u32(1) + u32(2) + u32(3)),
      entry_array("signed", GgufType::i8, 2, u8(1) + u8(0xff)),
      entry_array("flags", GgufType::boolean, 2, u8(1) + u8(0)),
      entry_array("texts", GgufType::string, 2, text("ab") + text("cde")),
  };
  file.tensors = {tensor("second", {2, 3}, 0, 32), tensor("first", {8}, 1, 0)};
  file.data = 32 + 24;
  return file;
}

struct TempFolder {
  std::filesystem::path path;
  explicit TempFolder(const char* name) : path(temp_path(name)) { std::filesystem::create_directories(path); }
  ~TempFolder() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
};

// Three parts of one model, by path.
GgufBytes part(uint32_t number, uint32_t count, int tensors_in_all, const std::string& name) {
  GgufBytes file;
  file.entries = {entry("split.no", GgufType::u16, u16(uint16_t(number))),
                  entry("split.count", GgufType::u16, u16(uint16_t(count))),
                  entry("split.tensors.count", GgufType::i32, u32(uint32_t(tensors_in_all)))};
  if (number == 0) file.entries.push_back(entry_text("general.architecture", "llama"));
  file.tensors = {tensor(name, {4}, 0, 0)};
  file.data = 16;
  return file;
}
Files split_model() {
  return {{"m-00001-of-00003.gguf", part(0, 3, 3, "a").build()},
          {"m-00002-of-00003.gguf", part(1, 3, 3, "b").build()},
          {"m-00003-of-00003.gguf", part(2, 3, 3, "c").build()}};
}

}  // namespace

TEST(typed_look_ups) {
  const auto file = open_in_memory(small().build());
  CHECK_EQ(file->get_string("name"), std::string("a model"));
  CHECK_EQ(file->get_string("absent", "other"), std::string("other"));
  CHECK_EQ(file->get_uint("count", 7), 7u);
  CHECK_EQ(file->get_uint("positive", 10), 5u);
  CHECK_EQ(file->get_uint("absent", 10, 99), 99u);
  CHECK_EQ(file->get_uint("big", UINT64_MAX), UINT64_MAX);
  CHECK_EQ(file->get_float("float"), 0.5);
  CHECK_EQ(file->get_float("count"), 7.0);
  CHECK_EQ(file->get_float("absent", 1.25), 1.25);
  CHECK(file->get_bool("yes", false));
  CHECK(file->get_bool("absent", true));
  CHECK(file->get_uints("layers", 3, 3) == (std::vector<uint64_t>{1, 2, 3}));
  CHECK(file->get_uints("count", 2, 10) == (std::vector<uint64_t>{7, 7}));
  CHECK(file->get_uints("flags", 2, 1) == (std::vector<uint64_t>{1, 0}));
  CHECK(file->find("absent") == nullptr);
  CHECK(file->tensor("absent") == nullptr);
  const GgufEntry* texts = file->find("texts");
  CHECK(texts && texts->type == GgufType::array);
  const GgufArray& array_value = *std::get<std::shared_ptr<GgufArray>>(texts->value);
  CHECK(array_value.offsets == (std::vector<uint32_t>{0, 2, 5}));
}

TEST(wrong_metadata_names_key_value_and_what_was_expected) {
  const auto file = open_in_memory(small().build());
  const Code code = Code::gguf_invalid;
  check_error(HERE, code, {"m.gguf", "\"count\"", "u32 7", "0 to 6"}, [&] { file->get_uint("count", 6); });
  check_error(HERE, code, {"\"negative\"", "i32 -5", "0 to 9"}, [&] { file->get_uint("negative", 9); });
  check_error(HERE, code, {"\"negative\"", "-5"}, [&] { file->get_uint("negative", 9, 1); });
  check_error(HERE, code, {"\"name\"", "\"a model\"", "integer"}, [&] { file->get_uint("name", 9); });
  check_error(HERE, code, {"\"float\"", "f32 0.5", "integer"}, [&] { file->get_uint("float", 9); });
  check_error(HERE, code, {"\"absent\"", "missing"}, [&] { file->get_uint("absent", 9); });
  check_error(HERE, code, {"\"nan\"", "nan", "finite"}, [&] { file->get_float("nan"); });
  check_error(HERE, code, {"\"infinite\"", "inf", "finite"}, [&] { file->get_float("infinite", 1.0); });
  check_error(HERE, code, {"\"yes\"", "true", "finite number"}, [&] { file->get_float("yes"); });
  check_error(HERE, code, {"\"absent\"", "missing"}, [&] { file->get_float("absent"); });
  check_error(HERE, code, {"\"count\"", "bool"}, [&] { file->get_bool("count", true); });
  check_error(HERE, code, {"\"count\"", "string"}, [&] { file->get_string("count"); });
  check_error(HERE, code, {"\"texts\"", "array of 2 string"}, [&] { file->get_string("texts"); });
  check_error(HERE, code, {"\"absent\"", "missing"}, [&] { file->get_string("absent"); });
  check_error(HERE, code, {"\"layers\"", "array of 3 i32", "array of 4"},
              [&] { file->get_uints("layers", 4, 9); });
  check_error(HERE, code, {"\"layers\"[2]", "3", "0 to 2"}, [&] { file->get_uints("layers", 3, 2); });
  check_error(HERE, code, {"\"signed\"[1]", "i8 -1"}, [&] { file->get_uints("signed", 2, 9); });
  check_error(HERE, code, {"\"texts\"", "array of 2"}, [&] { file->get_uints("texts", 2, 9); });
  check_error(HERE, code, {"\"name\""}, [&] { file->get_uints("name", 2, 9); });
  check_error(HERE, code, {"\"absent\"", "missing"}, [&] { file->get_uints("absent", 2, 9); });
}

TEST(overrides) {
  const auto file = open_in_memory(small().build());
  const auto bad = [&](const char* assignment, const std::vector<std::string>& parts) {
    check_error(assignment, Code::invalid_argument, parts, [&] { file->override_metadata(assignment); });
  };
  file->override_metadata("count=9");
  CHECK_EQ(file->get_uint("count", 9), 9u);
  file->override_metadata("float=2");
  CHECK_EQ(file->get_float("float"), 2.0);
  file->override_metadata("float=float:1e-3");
  CHECK_EQ(file->get_float("float"), double(1e-3f));
  file->override_metadata("negative=-7");
  CHECK_EQ(file->get_float("negative"), -7.0);
  file->override_metadata("name=int:x=y");
  CHECK_EQ(file->get_string("name"), std::string("int:x=y"));
  file->override_metadata("yes=false");
  CHECK(!file->get_bool("yes", true));
  file->override_metadata("new.bool=true");
  CHECK(file->get_bool("new.bool", false));
  file->override_metadata("new.int=12");
  CHECK_EQ(file->get_uint("new.int", 12), 12u);
  file->override_metadata("new.negative=-12");
  CHECK_EQ(file->get_float("new.negative"), -12.0);
  file->override_metadata("new.float=1.5e2");
  CHECK_EQ(file->get_float("new.float"), 150.0);
  file->override_metadata("new.text=1.5 apples");
  CHECK_EQ(file->get_string("new.text"), std::string("1.5 apples"));
  file->override_metadata("new.typed=str:12");
  CHECK_EQ(file->get_string("new.typed"), std::string("12"));
  file->override_metadata("new.link=https://a/b");
  CHECK_EQ(file->get_string("new.link"), std::string("https://a/b"));
  file->override_metadata("new.empty=");
  CHECK_EQ(file->get_string("new.empty"), std::string());
  CHECK_EQ(file->get_uint("big", UINT64_MAX), UINT64_MAX);  // the others are still found
  bad("count", {"key=value"});
  bad("=1", {"key=value"});
  bad("", {"key=value"});
  bad("count=-1", {"\"-1\"", "u32"});
  bad("count=4294967296", {"u32"});
  bad("count=1.5", {"u32"});
  bad("count=", {"u32"});
  bad("float=nan", {"f32"});
  bad("float=1e60", {"f32"});
  bad("yes=1", {"bool"});
  bad("layers=1", {"\"layers\"", "array"});
  bad("new=u8:256", {"u8"});
  bad("new=float:inf", {"f64"});
  bad("general.alignment=64", {"layout"});
  bad("split.count=2", {"layout"});
  CHECK_EQ(file->get_uint("count", 9), 9u);
}

TEST(tensors_are_where_they_should_be) {
  const TempFolder folder("gguf-test");
  const std::string bytes = small().build();
  const std::string path = folder.write("modèle ü.gguf", bytes);
  const auto file = GgufFile::open(path);
  CHECK_EQ(file->path(), path);
  CHECK_EQ(file->file_bytes(), bytes.size());
  CHECK_EQ(file->tensors()[0].name, std::string("second"));
  const TensorInfo& t = *file->tensor("second");
  CHECK_EQ(t.n_dims, 2u);
  CHECK_EQ(t.dims[0], 2);
  CHECK_EQ(t.dims[1], 3);
  CHECK_EQ(t.dims[3], 1);
  CHECK_EQ(t.elements(), 6);
  CHECK_EQ(t.bytes, 24u);
  CHECK_EQ(t.offset % 32, 0u);
  std::string got(24, 0);
  file->read(t, 0, 24, got.data());
  CHECK(got == bytes.substr(bytes.size() - 24));
  file->read(t, 20, 4, got.data());
  CHECK(got.substr(0, 4) == bytes.substr(bytes.size() - 4));
  check_error(HERE, Code::internal, {"\"second\""}, [&] { file->read(t, 20, 5, got.data()); });
  check_error(HERE, Code::internal, {"\"second\""}, [&] { file->read(t, 25, 0, got.data()); });
  check_error(HERE, Code::internal, {"part"}, [&] { file->map(1); });
  auto mapping = file->map(0);
  CHECK_EQ(mapping->size(), bytes.size());
  CHECK(std::memcmp(mapping->data(), bytes.data(), bytes.size()) == 0);
  mapping->check();
  file->check_unchanged();
  CHECK_EQ(file->identity(), GgufFile::open(path)->identity());
  std::filesystem::resize_file(path, bytes.size() - 1);
  check_error(HERE, Code::file_changed, {"modèle", "ends at byte"},
              [&] { file->read(t, 0, 24, got.data()); });
  check_error(HERE, Code::file_changed, {"modèle"}, [&] { file->check_unchanged(); });
  check_error(HERE, Code::file_changed, {"modèle"}, [&] { mapping->check(); });
  CHECK_EQ(file->map(0), mapping);  // shared while somebody holds it
  mapping.reset();
  check_error(HERE, Code::file_changed, {"shorter"}, [&] { file->map(0); });
  check_error(HERE, Code::gguf_truncated, {"\"second\""}, [&] { GgufFile::open(path); });
  folder.write("modèle ü.gguf", bytes + "x");
  CHECK(file->identity() != GgufFile::open(path)->identity());
}

TEST(alignments_other_than_the_usual) {
  for (const uint32_t alignment : {8u, 24u, 64u, 4096u}) {
    GgufBytes file = small();
    file.entries.push_back(entry_u32("general.alignment", alignment));
    file.alignment = alignment;
    file.tensors = {tensor("a", {2}, 0, 0), tensor("b", {2}, 0, alignment)};
    file.data = alignment + 8;
    const auto open = open_in_memory(file.build());
    CHECK_EQ(open->alignment(), alignment);
    CHECK_EQ(open->tensor("b")->offset + 8, open->file_bytes());
  }
}

TEST(reading_metadata_does_not_read_weights) {
  GgufBytes file = small();
  file.tensors = {tensor("t", {1 << 20}, 0, 0)};
  file.data = 4 << 20;
  const std::string bytes = file.build();
  const MemorySource source("m.gguf", bytes);
  parse_gguf(source, 0);
  CHECK(source.furthest <= 64 << 10);  // the read-ahead
}

TEST(large_vocabularies_are_read_fast) {
  constexpr uint32_t count = 262144;
  std::string tokens, scores, types;
  for (uint32_t i = 0; i < count; ++i) {
    tokens += text("token" + std::to_string(i));
    scores += f32(float(i));
    types += u32(1);
  }
  GgufBytes file = small();
  file.entries.push_back(entry_array("tokens", GgufType::string, count, tokens));
  file.entries.push_back(entry_array("scores", GgufType::f32, count, scores));
  file.entries.push_back(entry_array("types", GgufType::i32, count, types));
  const TempFolder folder("gguf-vocabulary");
  const std::string path = folder.write("v.gguf", file.build());
  const auto start = std::chrono::steady_clock::now();
  const auto open = GgufFile::open(path);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("     %u tokens in %.1f ms\n", count, took.count());
  CHECK(took.count() < 1000);  // some 10 ms; with room for sanitizers and busy machines
  const auto& list = *std::get<std::shared_ptr<GgufArray>>(open->find("tokens")->value);
  CHECK_EQ(list.count, count);
  const auto* last = reinterpret_cast<const char*>(list.bytes.data()) + list.offsets[count - 1];
  CHECK_EQ(std::string(last, list.offsets[count] - list.offsets[count - 1]), std::string("token262143"));
}

TEST(empty_things_are_fine) {
  const auto nothing = open_in_memory(GgufBytes{}.build());
  CHECK(nothing->metadata().empty() && nothing->tensors().empty());
  GgufBytes file;
  file.entries = {entry_array("tokens", GgufType::string, 0, ""), entry_text("text", "")};
  const auto open = open_in_memory(file.build());
  CHECK_EQ(open->get_string("text"), std::string());
  exercise(*open);
}

TEST(split_models_open_from_any_part) {
  for (const char* path : {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}) {
    const auto file = open_in_memory(path, split_model());
    CHECK_EQ(file->path(), std::string("m-00001-of-00003.gguf"));
    CHECK_EQ(file->tensors().size(), size_t(3));
    CHECK_EQ(file->tensor("c")->part, 2u);
    CHECK_EQ(file->get_string("general.architecture"), std::string("llama"));
    CHECK_EQ(file->identity(),
             std::string("m-00001-of-00003.gguf;m-00002-of-00003.gguf;m-00003-of-00003.gguf;"));
    exercise(*file);
  }
  const auto one =
      open_in_memory("m-00001-of-00001.gguf", {{"m-00001-of-00001.gguf", part(0, 1, 1, "a").build()}});
  CHECK_EQ(one->tensors().size(), size_t(1));
}

TEST(bad_splits_name_the_part) {
  const char* first = "m-00001-of-00003.gguf";
  const auto refuses = [&](const std::string& path, const Files& files, const std::vector<std::string>& parts,
                           Code code = Code::gguf_split) {
    check_error("split " + parts[0], code, parts, [&] { open_in_memory(path, files); });
  };
  const auto with = [](const std::string& path, const std::string& bytes) {
    Files files = split_model();
    files[path] = bytes;
    return files;
  };
  const auto without = [](const std::string& path) {
    Files files = split_model();
    files.erase(path);
    return files;
  };
  const std::string a = part(0, 3, 3, "a").build(), b = part(1, 3, 3, "b").build();
  refuses(first, without("m-00002-of-00003.gguf"), {"m-00002-of-00003.gguf", "missing", first});
  refuses("m-00003-of-00003.gguf", without(first), {first, "missing"});
  refuses(first, with("m-00002-of-00003.gguf", a),
          {"m-00002", "split.no is 0", "expected 1"});  // in a circle
  refuses(first, with("m-00003-of-00003.gguf", b), {"m-00003", "split.no is 1", "expected 2"});
  refuses(first, with("m-00002-of-00003.gguf", part(1, 4, 3, "b").build()), {"m-00002", "split.count is 4"});
  refuses(first, with("m-00002-of-00003.gguf", small().build()), {"m-00002", "split.no is not a number"});
  refuses(first, with("m-00002-of-00003.gguf", part(1, 3, 3, "a").build()), {"m-00002", "\"a\"", "part 1"});
  refuses(first, with(first, part(0, 3, 4, "a").build()), {"split.tensors.count is 4", "have 3"});
  refuses(first, with(first, part(0, 3, -1, "a").build()), {"split.tensors.count", "-1"}, Code::gguf_invalid);
  refuses(first, with(first, part(0, 2, 3, "a").build()), {first, "part 1 of 2"});
  refuses(first, with(first, part(7, 3, 3, "a").build()), {first, "part 8 of 3"});
  refuses(first, with(first, small().build()), {first, "split.count", "rename"});
  refuses("m.gguf", {{"m.gguf", a}}, {"m.gguf", "part 1 of 3", "name"});
  refuses("m-1-of-3.gguf", {{"m-1-of-3.gguf", a}}, {"must end in"});
  refuses(first, with("m-00002-of-00003.gguf", b.substr(0, b.size() - 1)), {"m-00002", "\"b\""},
          Code::gguf_truncated);
  refuses(first, with("m-00003-of-00003.gguf", "GGML"), {"m-00003", "magic"}, Code::gguf_magic);
  // The same file under two names.
  refuses("m-00002-of-00003.gguf", with(first, b), {first, "split.no is 1", "expected 0"});
  GgufBytes odd = part(0, 3, 3, "a");
  odd.entries[1] = entry_text("split.count", "3");
  refuses(first, with(first, odd.build()), {"\"split.count\"", "string"}, Code::gguf_invalid);
  odd.entries[1] = entry_u32("split.count", 1u << 31);
  refuses(first, with(first, odd.build()), {"\"split.count\"", "2147483648"}, Code::gguf_invalid);
  odd.entries[1] = entry_u32("split.count", 0);
  refuses(first, with(first, odd.build()), {first, "split.count"});
}

// The seeds of the fuzz target come from the Python gguf package's writer.
TEST(files_written_by_others_open) {
  const std::string folder = "test/native/fuzz/corpus/";
  for (const auto& item : std::filesystem::directory_iterator(folder)) {
    const auto file = GgufFile::open(item.path().string());
    CHECK(!file->get_string("general.architecture").empty());
    exercise(*file);
  }
  const auto values = GgufFile::open(folder + "values.gguf");
  CHECK_EQ(values->get_uint("v.u64", UINT64_MAX), UINT64_MAX);
  CHECK(std::get<int64_t>(values->find("v.i64")->value) == INT64_MIN);
  CHECK_EQ(values->get_float("v.f64"), 0.1);
  CHECK(values->get_bool("v.bool", false));
  CHECK_EQ(values->get_string("v.text"), std::string("t\xc3\xabxt\n"));
  const auto& nested = *std::get<std::shared_ptr<GgufArray>>(values->find("v.nested")->value);
  CHECK_EQ(nested.count, 2u);
  CHECK_EQ(std::get<std::shared_ptr<GgufArray>>(nested.nested[0])->bytes.size(), size_t(2));
  uint32_t known = 0;
  kernels::quant_types(&known);
  CHECK_EQ(GgufFile::open(folder + "types.gguf")->tensors().size(), size_t(known));
  CHECK_EQ(GgufFile::open(folder + "version2.gguf")->version(), 2u);
  CHECK_EQ(GgufFile::open(folder + "part-00002-of-00002.gguf")->tensors().size(), size_t(2));
}
