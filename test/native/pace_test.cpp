// How many tokens of prompts join the sequences that write, on a machine whose step times are known.
#include "native/engine/pace.h"

#include <algorithm>

#include "test/native/check.h"

using namespace inhouse;

namespace {

// Milliseconds of a step: a pass over the weights, or the arithmetic of its rows.
double step(int32_t rows) {
  return std::max(20.0, 12 + 2.2 * rows);
}

// Steps of `rows` that write beside a prompt without end. Returns the last one's tokens of the prompt.
int32_t settle(Pace& pace, int32_t rows, int32_t steps) {
  int32_t tokens = 0;
  for (int32_t i = 0; i < steps; ++i) {
    tokens = pace.prompt_tokens(rows, 504);
    pace.record(rows, tokens, step(rows + tokens) * 1e-3);
  }
  return tokens;
}

}  // namespace

TEST(steps_become_as_long_as_is_allowed) {
  for (const double slowdown : {1.5, 2.0, 4.0}) {
    Pace pace(slowdown, 32);
    for (int32_t i = 0; i < 8; ++i) pace.record(8, 0, step(8) * 1e-3);
    const double longest = slowdown * step(8), reached = step(8 + settle(pace, 8, 40));
    CHECK(reached <= longest);
    CHECK(reached >= 0.85 * longest);
  }
}

// Where prompts come without end, no step shows what one without them takes.
TEST(prompts_that_never_pause_do_not_starve) {
  Pace pace(2, 32);
  pace.record(0, 512, step(512) * 1e-3 * 2);  // held up by something else
  for (int32_t rows = 1; rows <= 8; ++rows) settle(pace, rows, 12);
  const int32_t tokens = settle(pace, 8, 40);
  CHECK(tokens >= 6);
  CHECK(step(8 + tokens) <= 2.5 * step(8));
}

TEST(every_step_carries_some_of_a_prompt) {
  Pace pace(1, 8);
  for (int32_t i = 0; i < 8; ++i) pace.record(4, 0, step(4) * 1e-3);
  CHECK(settle(pace, 4, 10) >= 1);
  CHECK_EQ(pace.prompt_tokens(4, 1), 1);
  Pace free(1000, 8);
  CHECK_EQ(free.prompt_tokens(4, 504), 504);
  CHECK_EQ(Pace(2, 8).prompt_tokens(0, 512), 512);
}
