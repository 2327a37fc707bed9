// The automaton against a search byte by byte.
#include "native/engine/stop_matcher.h"

#include <algorithm>
#include <random>

#include "test/native/check.h"

using namespace inhouse;

namespace {

// After each byte: the longest stop string that ends there.
struct Naive {
  std::vector<std::string> stops;
  std::string text;
  size_t released = 0;
  bool stopped = false;

  void feed(char c, std::string& out) {
    if (stopped) return;
    text.push_back(c);
    size_t match = 0, held = 0;
    for (const std::string& stop : stops) {
      if (text.ends_with(stop)) match = std::max(match, stop.size());
      for (size_t n = 1; n < stop.size(); ++n) {
        if (text.ends_with(stop.substr(0, n))) held = std::max(held, n);
      }
    }
    stopped = match != 0;
    const size_t free = text.size() - (stopped ? match : held);
    if (free > released) out.append(text, released, free - released);
    released = std::max(released, free);
  }
};

std::string run(std::vector<std::string> stops, const std::vector<std::string>& pieces,
                bool* stopped = nullptr) {
  StopMatcher matcher(std::move(stops));
  std::string out;
  bool done = false;
  for (const std::string& piece : pieces) done = matcher.feed(piece, out);
  if (!done) matcher.flush(out);
  if (stopped) *stopped = done;
  return out;
}

}  // namespace

TEST(plain_cases) {
  bool stopped = false;
  CHECK_EQ(run({}, {"abc", "def"}, &stopped), std::string("abcdef"));
  CHECK(!stopped);
  CHECK_EQ(run({"\n\n"}, {"one\n", "\ntwo"}, &stopped), std::string("one"));
  CHECK(stopped);
  CHECK_EQ(run({"\n\n"}, {"one\n"}, &stopped), std::string("one\n"));
  CHECK(!stopped);
  CHECK_EQ(run({"bc", "abcd"}, {"xabcd"}), std::string("xa"));  // complete first
  CHECK_EQ(run({"c", "abc"}, {"xab", "c"}), std::string("x"));  // complete together: starts first
  CHECK_EQ(run({"aab"}, {"aaaaab!"}), std::string("aaa"));
  CHECK_EQ(run({std::string("\0x", 2)}, {std::string("a\0", 2), "xb"}), std::string("a"));
  CHECK_EQ(run({"\xff\xfe"}, {"a\xff", "\xff\xfe"}), std::string("a\xff"));
}

TEST(holds_back_no_more_than_needed) {
  StopMatcher matcher({"</s>", "<stop>"});
  std::string out;
  CHECK(!matcher.feed("a<b<st", out));
  CHECK_EQ(out, std::string("a<b"));
  CHECK(!matcher.feed("r<", out));
  CHECK_EQ(out, std::string("a<b<str"));
  CHECK(matcher.feed("/s>tail", out));
  CHECK(matcher.feed("more", out));
  matcher.flush(out);
  CHECK_EQ(out, std::string("a<b<str"));
}

TEST(any_cut_gives_the_same_as_the_search) {
  std::mt19937 engine(11);
  for (int round = 0; round < 4000; ++round) {
    const uint32_t alphabet = 1 + engine() % 3;
    const auto text = [&](size_t length) {
      std::string s;
      while (s.size() < length) s.push_back(char('a' + engine() % alphabet));
      return s;
    };
    Naive naive;
    for (uint32_t n = engine() % 5; n > 0; --n) naive.stops.push_back(text(1 + engine() % 7));
    StopMatcher matcher(naive.stops);
    const std::string input = text(40);
    std::string got, expected;
    size_t at = 0;
    bool stopped = false;
    while (at < input.size()) {
      const size_t length = std::min(input.size() - at, size_t(engine() % 6));
      for (size_t i = 0; i < length; ++i) naive.feed(input[at + i], expected);
      stopped = matcher.feed(std::string_view(input).substr(at, length), got);
      at += length;
      CHECK_EQ(got, expected);
      CHECK_EQ(stopped, naive.stopped);
    }
    if (!stopped) expected.append(naive.text, naive.released);
    matcher.flush(got);
    CHECK_EQ(got, expected);
  }
}

TEST(hostile_stops_take_linear_time) {
  // Every byte falls back along a long chain or releases one byte of a long prefix.
  const std::string as(300000, 'a');
  StopMatcher matcher({as + "b", as.substr(0, 150000) + "c"});
  std::string out;
  for (int i = 0; i < 1000000; ++i) matcher.feed("a", out);
  CHECK_EQ(out.size(), size_t{700000});
  CHECK(matcher.feed("c", out));
  CHECK_EQ(out.size(), size_t{850000});

  std::vector<std::string> many;
  for (int i = 1; i < 1500; ++i) many.push_back(std::string(size_t(i), 'a') + "b");
  out.clear();
  CHECK(!run(many, {std::string(1000000, 'a')}).empty());
}
