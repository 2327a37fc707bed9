// Runs a model without Node: evaluates token ids, or continues them greedily.
//
//   inhouse_evaluate MODEL [--device cpu|reference] [--threads N] [--isa NAME] [--batch N]
//                    [--kv f32|f16|q8_0|q4_0] [--kv-v TYPE] [--logprobs OUT | --greedy N] < IDS
//
// IDS are decimal token ids on standard input. Prints the mean negative log-likelihood in nats, or with
// --greedy the ids drawn. OUT receives float32 log-probabilities [tokens, vocabulary]. --batch: tokens of a
// step. --kv: type of the cache, --kv-v: of its values alone.
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "bench/native/arguments.h"
#include "native/engine/engine.h"

using namespace inhouse;
using bench::Arguments;
using bench::number;
using bench::UsageError;

namespace {

// Collects one request's events and lets main wait for the last of them.
class Collector final : public EventSink {
 public:
  void on_events(std::vector<Event>&& events) override {
    const std::lock_guard lock(mutex_);
    for (Event& event : events) events_.push_back(std::move(event));
    ready_.notify_one();
  }
  std::vector<Event> wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return !events_.empty(); });
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<Event> events_;
};

struct Settings {
  ModelOptions model;
  EngineOptions engine;
  std::string logprobs;  // the file; empty: none
  int32_t greedy = 0;    // tokens to draw
};

Device device_named(std::string_view name) {
  if (name == "cpu") return Device::cpu;
  if (name == "reference") return Device::reference;
  throw UsageError("--device: expected cpu or reference, got \"" + std::string(name) + "\"");
}

KvType kv_type(std::string_view name) {
  if (name == "f32") return KvType::f32;
  if (name == "f16") return KvType::f16;
  if (name == "q8_0") return KvType::q8_0;
  if (name == "q4_0") return KvType::q4_0;
  throw UsageError("--kv: expected f32, f16, q8_0 or q4_0, got \"" + std::string(name) + "\"");
}

Settings settings_of(Arguments arguments) {
  Settings s;
  while (const char* argument = arguments.next()) {
    const std::string option = argument;
    const auto positive = [&](int32_t max) { return number(option, arguments.value(option), 1, max); };
    if (option == "--device")
      s.model.device = device_named(arguments.value(option));
    else if (option == "--threads")
      s.model.cpu.threads = positive(512);
    else if (option == "--isa")
      s.model.cpu.instruction_set = arguments.value(option);
    else if (option == "--logprobs")
      s.logprobs = arguments.value(option);
    else if (option == "--greedy")
      s.greedy = positive(1 << 20);
    else if (option == "--kv")
      s.engine.kv_type_k = s.engine.kv_type_v = kv_type(arguments.value(option));
    else if (option == "--kv-v")
      s.engine.kv_type_v = kv_type(arguments.value(option));
    else if (option == "--batch")
      s.engine.max_batch_tokens = positive(1 << 20);
    else if (option.starts_with("-"))
      throw UsageError("no such option: " + option);
    else if (s.model.path.empty())
      s.model.path = option;
    else
      throw UsageError("one model is run, not " + s.model.path + " and " + option);
  }
  if (s.model.path.empty()) throw UsageError("the model is missing");
  if (s.greedy > 0 && !s.logprobs.empty())
    throw UsageError("--logprobs: of the ids given alone, not with --greedy");
  return s;
}

std::vector<int32_t> read_ids(std::istream& in) {
  std::vector<int32_t> ids;
  for (std::string word; in >> word;)
    ids.push_back(number("token ids", word, 0, std::numeric_limits<int32_t>::max()));
  if (ids.empty()) throw UsageError("token ids: expected some on standard input");
  return ids;
}

// Log-probabilities as they come; without a path, nothing is written.
class Output {
 public:
  explicit Output(const std::string& path) : path_(path) {
    if (path.empty()) return;
    errno = 0;
    file_.open(path, std::ios::binary);
    check();
  }
  void write(const std::vector<float>& rows) {
    if (path_.empty()) return;
    file_.write(reinterpret_cast<const char*>(rows.data()), std::streamsize(rows.size() * sizeof(float)));
    check();
  }
  void close() {
    if (path_.empty()) return;
    file_.close();
    check();
  }

 private:
  void check() const {
    if (file_) return;
    const std::string reason = errno ? std::string(": ") + std::strerror(errno) : "";
    throw std::runtime_error("--logprobs: " + path_ + " cannot be written" + reason);
  }
  std::string path_;
  std::ofstream file_;
};

void evaluate(Arguments arguments) {
  Settings settings = settings_of(arguments);
  RequestSpec spec;
  spec.prompt = read_ids(std::cin);
  Output out(settings.logprobs);
  std::shared_ptr<Model> model = Model::load(settings.model, {});
  std::fprintf(stderr, "%s, %.0f MB of weights\n", model->backend().description().c_str(),
               double(model->weight_bytes()) / 1e6);
  Collector collector;
  const std::unique_ptr<Engine> engine = Engine::create(model, {}, settings.engine, collector);
  spec.evaluate = settings.greedy == 0;
  spec.evaluate_rows = !settings.logprobs.empty();
  spec.max_tokens = settings.greedy;
  spec.sampling.temperature = 0;
  spec.speculation = SpeculationMode::off;  // the rate that is printed is that of a token a step
  const uint64_t id = engine->submit(std::move(spec));
  double sum = 0;
  int64_t count = 0;
  for (bool done = false; !done;) {
    for (Event& event : collector.wait()) {
      if (event.error) throw *event.error;
      for (float logprob : event.token_logprobs) sum -= double(logprob), ++count;
      for (int32_t token : event.tokens) std::printf("%d ", token);
      out.write(event.rows);
      done = event.finish != FinishReason::none;
      engine->acknowledge(id);
      if (done) {
        const Usage& usage = event.usage;
        std::fprintf(
            stderr, "prompt %.1f tokens/s, decode %.1f tokens/s\n",
            usage.prompt_tokens / usage.prompt_ms * 1e3,
            usage.completion_tokens > 1 ? (usage.completion_tokens - 1) / usage.decode_ms * 1e3 : 0.0);
      }
    }
  }
  out.close();
  if (count)
    std::printf("%lld tokens, mean negative log-likelihood %.6f nats", static_cast<long long>(count),
                sum / double(count));
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  return inhouse::bench::run_main(
      argc, argv,
      "inhouse_evaluate MODEL [--device cpu|reference] [--threads N] [--isa NAME] [--batch N] "
      "[--kv f32|f16|q8_0|q4_0] [--kv-v TYPE] [--logprobs OUT | --greedy N] < IDS",
      evaluate);
}
