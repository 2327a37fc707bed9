// Files, mappings and memory of the operating system.
#include "native/platform/platform.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "test/native/gguf_writer.h"
#include "test/native/temp_path.h"

#ifndef _WIN32
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// Under sanitizers; g++ and clang have different ways to say so.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LOCKING_DOES_NOTHING
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define LOCKING_DOES_NOTHING
#endif
#endif

using namespace inhouse;
using namespace inhouse::test;

namespace {

struct TempFolder {
  std::filesystem::path path;
  TempFolder() : path(temp_path("platform")) { std::filesystem::create_directories(path); }
  ~TempFolder() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
};

sigjmp_buf after_fault;
void note_fault(int) {
  siglongjmp(after_fault, 1);
}

uint64_t sum(const uint8_t* data, uint64_t size) {
  uint64_t total = 0;
  for (uint64_t i = 0; i < size; ++i) total += static_cast<const volatile uint8_t*>(data)[i];
  return total;
}

}  // namespace

// Must be the first case here: it installs a handler of its own before the first mapping is made.
TEST(a_shrinking_mapped_file_reads_as_zeros) {
  const TempFolder folder;
  const uint64_t page = platform::page_size();
  const std::string path = folder.write("mapped", std::string(8 * page, '\1'));
  struct sigaction own = {}, before = {};
  own.sa_handler = note_fault;
  own.sa_flags = SA_NODEFER;
  sigaction(SIGBUS, &own, &before);
  if (sigsetjmp(after_fault, 1) != 0) {
    std::printf("     skipped: another suite in this process made a mapping before\n");
    sigaction(SIGBUS, &before, nullptr);
    return;
  }
  const platform::File file = platform::File::open(path);
  const platform::MappedFile mapping = file.map();
  const platform::MappedFile other = file.map();
  CHECK_EQ(sum(mapping.data(), mapping.size()), 8 * page);
  CHECK(!mapping.damaged());
  std::filesystem::resize_file(path, 3 * page);
  CHECK_EQ(sum(mapping.data() + 6 * page, page), 0u);  // the lost end
  CHECK_EQ(sum(mapping.data(), mapping.size()), 3 * page);
  CHECK(mapping.damaged());
  CHECK(!other.damaged());  // nobody has read it since
  CHECK_EQ(sum(other.data(), other.size()), 3 * page);
  CHECK(other.damaged());

  // A fault that is none of ours still reaches the handler that was there before.
  const int fd = open(path.c_str(), O_RDONLY);
  void* foreign = mmap(nullptr, size_t(8 * page), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  volatile bool passed_on = false;
  if (sigsetjmp(after_fault, 1) == 0) {
    sum(static_cast<const uint8_t*>(foreign) + 5 * page, 1);
  } else {
    passed_on = true;
  }
  CHECK(passed_on);
  munmap(foreign, size_t(8 * page));
}

TEST(mappings_come_and_go) {
  const TempFolder folder;
  const platform::File file = platform::File::open(folder.write("many", "0123456789"));
  std::vector<platform::MappedFile> held;
  for (int i = 0; i < 1000; ++i) held.push_back(file.map());
  check_error("too many", Code::out_of_memory, {"mapped already"}, [&] {
    for (int i = 0; i < 100; ++i) held.push_back(file.map());
  });
  held.clear();
  for (int i = 0; i < 3000; ++i) CHECK_EQ(file.map().data()[9], '9');
}

TEST(only_regular_files_open) {
  const TempFolder folder;
  const auto refuses = [](const std::string& path, Code code, const std::string& part) {
    check_error(path, code, {path, part}, [&] { platform::File::open(path); });
  };
  const std::string fifo = (folder.path / "fifo").string(), link = (folder.path / "link").string();
  CHECK_EQ(mkfifo(fifo.c_str(), 0600), 0);
  refuses(fifo, Code::file_read, "pipe");
  std::filesystem::create_symlink(fifo, link);
  refuses(link, Code::file_read, "pipe");
  refuses(folder.path.string(), Code::file_read, "directory");
  refuses("/dev/zero", Code::file_read, "device");
  refuses((folder.path / "absent").string(), Code::file_not_found, "no such file");
  refuses(folder.write("file", "x") + "/below", Code::file_not_found, "no such file");
  std::filesystem::create_symlink("loop", folder.path / "loop");
  refuses((folder.path / "loop").string(), Code::file_read, "cannot be opened");
  check_error("empty", Code::file_not_found, {"path"}, [] { platform::File::open(""); });
  check_error("NUL", Code::file_not_found, {"NUL"}, [] { platform::File::open(std::string("a\0b", 3)); });
  const std::string name = (folder.path / "socket").string();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.size() < sizeof address.sun_path) {
    std::memcpy(address.sun_path, name.c_str(), name.size());
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
      refuses(name, Code::file_read, "socket");
    }
    close(listener);
  }
}

TEST(reads_are_whole_or_an_error) {
  const TempFolder folder;
  const std::string path = folder.write("data", "0123456789");
  const platform::File file = platform::File::open(path);
  CHECK_EQ(file.size(), 10u);
  char got[11] = {};
  file.read(2, got, 8);
  CHECK_EQ(std::string(got), std::string("23456789"));
  file.read(10, got, 0);
  check_error("past the end", Code::file_changed, {path, "ends at byte 10"}, [&] { file.read(2, got, 9); });
  CHECK(platform::File::open(path).identity() == file.identity());
  folder.write("data", "0123456789+");
  CHECK(!(platform::File::open(path).identity() == file.identity()));
}

TEST(large_reads_come_in_pieces) {
  const TempFolder folder;
  const std::string path = folder.write("sparse", "begin");
  std::filesystem::resize_file(path, uint64_t(5) << 30);
  const platform::File file = platform::File::open(path);
  char byte = 1;
  file.read((uint64_t(5) << 30) - 1, &byte, 1);
  CHECK_EQ(byte, 0);
  CHECK_EQ(file.map().data()[(uint64_t(5) << 30) - 1], 0);
}

TEST(memory_is_known_and_can_be_locked) {
  const platform::MemoryInfo info = platform::memory_info();
  CHECK(info.total > (uint64_t(64) << 20));
  CHECK(info.available > 0 && info.available <= info.total);
  CHECK_EQ(platform::page_size() & (platform::page_size() - 1), 0u);
  const std::vector<char> bytes(size_t(3 * platform::page_size()));
  try {
    platform::lock_memory(bytes.data(), bytes.size());
    platform::unlock_memory(bytes.data(), bytes.size());
  } catch (const Error& e) {  // the limit may be zero here
    CHECK(e.code() == Code::memory_lock);
  }
#ifndef LOCKING_DOES_NOTHING
  check_error("the first pages", Code::memory_lock, {"lockMemory", "ulimit"},
              [] { platform::lock_memory(reinterpret_cast<const void*>(4096), 1 << 20); });
#endif
}
#endif
