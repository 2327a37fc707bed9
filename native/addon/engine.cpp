#include "native/addon/engine.h"

#include <algorithm>
#include <atomic>
#include <climits>

#include "native/addon/adapter.h"
#include "native/addon/arguments.h"
#include "native/addon/environment.h"
#include "native/engine/state.h"

namespace inhouse::addon {
namespace {

constexpr int64_t kMaxRequest = int64_t{1} << 53;

uint64_t request_argument(const Napi::CallbackInfo& info) {
  return uint64_t(integer_argument(info, 0, 0, kMaxRequest));
}

const char* kv_name(KvType type) {
  switch (type) {
    case KvType::f32:
      return "f32";
    case KvType::f16:
      return "f16";
    case KvType::q8_0:
      return "q8_0";
    case KvType::q4_0:
      return "q4_0";
  }
  return "f16";
}

SamplingParams read_sampling(Napi::Object object, Session& session) {
  SamplingParams params;
  const auto real = [&](const char* name) { return float(number_field(object, name)); };
  const auto whole = [&](const char* name) { return int32_t(integer_field(object, name, INT_MIN, INT_MAX)); };
  params.temperature = real("temperature");
  params.top_k = whole("topK");
  params.top_p = real("topP");
  params.min_p = real("minP");
  params.typical_p = real("typicalP");
  params.top_n_sigma = real("topNSigma");
  params.repeat_penalty = real("repeatPenalty");
  params.frequency_penalty = real("frequencyPenalty");
  params.presence_penalty = real("presencePenalty");
  params.penalty_last_n = whole("penaltyLastN");
  params.dry_multiplier = real("dryMultiplier");
  params.dry_base = real("dryBase");
  params.dry_allowed_length = whole("dryAllowedLength");
  params.dry_penalty_last_n = whole("dryPenaltyLastN");
  const auto breakers = strings_field(object, "dryBreakers");
  if (std::any_of(breakers.begin(), breakers.end(), [](const auto& text) { return text.empty(); }))
    throw Error(Code::invalid_argument, "dryBreakers must not be empty");
  if (!breakers.empty())
    for (const int32_t token : session.tokens_containing(breakers)) params.dry_breakers.push_back({token});
  const Napi::Array several = array_field(object, "dryBreakerTokens");
  for (uint32_t i = 0; i < several.Length(); ++i)
    params.dry_breakers.push_back(int32_elements(several[i], "dryBreakerTokens"));
  params.xtc_probability = real("xtcProbability");
  params.xtc_threshold = real("xtcThreshold");
  params.seed = bigint_field(object, "seed");
  const auto tokens = int32_elements(object.Get("logitBiasTokens"), "logitBiasTokens");
  const Napi::Array biases = array_field(object, "logitBiases");
  if (biases.Length() != tokens.size())
    throw Error(Code::invalid_argument, "logitBiases must have one number per token");
  for (uint32_t i = 0; i < tokens.size(); ++i) {
    const Napi::Value bias = biases[i];
    if (!bias.IsNumber()) throw Error(Code::invalid_argument, "logitBiases must be numbers");
    params.logit_bias.emplace_back(tokens[i], float(bias.As<Napi::Number>().DoubleValue()));
  }
  return params;
}

// A save or load on its thread.
struct StateJob final : Stoppable {
  std::atomic<bool> stopped{false};
  StateReport report;
  void stop() noexcept override { stopped = true; }
};

// {count, sum, bounds, counts}
Napi::Value histogram_value(Napi::Env env, const Histogram& histogram) {
  auto object = Napi::Object::New(env);
  auto bounds = Napi::Array::New(env, Histogram::kBuckets),
       counts = Napi::Array::New(env, Histogram::kBuckets);
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    bounds[uint32_t(i)] = Napi::Number::New(env, histogram.bound(i));
    counts[uint32_t(i)] = Napi::Number::New(env, double(histogram.counts[size_t(i)]));
  }
  object.Set("count", Napi::Number::New(env, double(histogram.count)));
  object.Set("sum", Napi::Number::New(env, histogram.sum));
  object.Set("bounds", bounds);
  object.Set("counts", counts);
  return object;
}

SpeculationMode speculation_mode(const std::string& name) {
  if (name == "auto") return SpeculationMode::automatic;
  if (name == "off") return SpeculationMode::off;
  if (name == "lookup") return SpeculationMode::lookup;
  if (name == "draft") return SpeculationMode::draft;
  throw Error(Code::invalid_argument, "speculation must be \"auto\", \"off\", \"lookup\" or \"draft\"");
}

// Whose prefixes are meant: of a request, its own and those it shares.
template <class Spec>
void read_scope(Napi::Object object, Spec& spec) {
  spec.cache_scope = string_field(object, "cacheScope");
  if (const Napi::Value adapter = object.Get("adapter"); !adapter.IsNull()) {
    spec.adapter = AdapterObject::of(adapter);
    spec.adapter_scale = float(number_field(object, "adapterScale"));
  }
}

// What requests of every kind have.
template <class Spec>
void read_serving(Napi::Object object, Spec& spec) {
  read_scope(object, spec);
  spec.priority = int32_t(integer_field(object, "priority", INT_MIN, INT_MAX));
  spec.queue_timeout_ms = number_field(object, "queueTimeoutMs");
  spec.timeout_ms = number_field(object, "timeoutMs");
  spec.share_prefix = bool_field(object, "sharePrefix");
}

RequestSpec read_spec(const Napi::CallbackInfo& info, Session& session) {
  RequestSpec spec;
  spec.prompt = int32_elements(info[0], "prompt");
  const Napi::Object object = object_argument(info, 1);
  spec.evaluate = bool_field(object, "evaluate");
  spec.evaluate_rows = bool_field(object, "evaluateRows");
  read_serving(object, spec);
  spec.logits_from = int32_t(integer_field(object, "logitsFrom", 0, INT_MAX));
  if (spec.evaluate) {
    spec.evaluate_greedy = bool_field(object, "evaluateGreedy");
    return spec;
  }
  spec.sampling = read_sampling(object.Get("sampling").As<Napi::Object>(), session);
  spec.max_tokens = int32_t(integer_field(object, "maxTokens", -1, INT_MAX));
  spec.stop = strings_field(object, "stop");
  spec.stop_tokens = int32_elements(object.Get("stopTokens"), "stopTokens");
  spec.min_tokens = int32_t(integer_field(object, "minTokens", 0, INT_MAX));
  spec.forced = int32_elements(object.Get("forcedTokens"), "forcedTokens");
  spec.prompt_logprobs = bool_field(object, "promptLogprobs");
  spec.process_logits = bool_field(object, "processLogits");
  spec.shift_keep = int32_t(integer_field(object, "shiftKeep", -1, INT_MAX));
  spec.speculation = speculation_mode(string_field(object, "speculation"));
  spec.top_logprobs = int32_t(integer_field(object, "topLogprobs", -1, 100));
  return spec;
}

EmbedSpec read_embed_spec(const Napi::CallbackInfo& info) {
  EmbedSpec spec;
  spec.tokens = int32_elements(info[0], "tokens");
  spec.ends = uint32_elements(info[1], "ends");
  const Napi::Object object = object_argument(info, 2);
  const std::string pooling = string_field(object, "pooling");
  spec.pooling = pooling == "cls" ? Pooling::cls : pooling == "last" ? Pooling::last : Pooling::mean;
  spec.dimensions = int32_t(integer_field(object, "dimensions", 0, INT_MAX));
  spec.normalize = bool_field(object, "normalize");
  read_serving(object, spec);
  return spec;
}

}  // namespace

Napi::Function EngineObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeEngine",
      {InstanceMethod<&EngineObject::describe>("describe"), InstanceMethod<&EngineObject::submit>("submit"),
       InstanceMethod<&EngineObject::embed>("embed"), InstanceMethod<&EngineObject::cancel>("cancel"),
       InstanceMethod<&EngineObject::acknowledge>("acknowledge"),
       InstanceMethod<&EngineObject::provide>("provide"), InstanceMethod<&EngineObject::pause>("pause"),
       InstanceMethod<&EngineObject::resume>("resume"), InstanceMethod<&EngineObject::forget>("forget"),
       InstanceMethod<&EngineObject::stats>("stats"), InstanceMethod<&EngineObject::rows>("rows"),
       InstanceMethod<&EngineObject::load_adapter>("loadAdapter"),
       InstanceMethod<&EngineObject::save_state>("saveState"),
       InstanceMethod<&EngineObject::load_state>("loadState"),
       InstanceMethod<&EngineObject::dispose>("dispose")});
}

Napi::Value EngineObject::wrap(Napi::Env env, std::shared_ptr<Session> session) {
  const Napi::Object object = Environment::of(env).engine_class.New({});
  Unwrap(object)->session_ = std::move(session);
  return object;
}

EngineObject::EngineObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<EngineObject>(info), callbacks_(Environment::of(info.Env()).callbacks) {}

EngineObject::~EngineObject() {
  if (!session_) return;
  session_->stop();
  session_->closed_all(Env());
  callbacks_->drop(session_->events_callback());
}

Session& EngineObject::session() const {
  if (!session_) throw Error(Code::disposed, "this object was not made by createEngine");
  return *session_;
}

Napi::Value EngineObject::describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const EngineInfo engine = session().engine()->info();
    auto object = Napi::Object::New(env);
    object.Set("contextLength", Napi::Number::New(env, engine.context_length));
    object.Set("maxConcurrent", Napi::Number::New(env, engine.max_concurrent));
    object.Set("maxQueue", Napi::Number::New(env, engine.max_queue));
    object.Set("maxBatchTokens", Napi::Number::New(env, engine.max_batch_tokens));
    object.Set("kvTokens", Napi::Number::New(env, engine.kv_tokens));
    object.Set("kvTypeK", Napi::String::New(env, kv_name(engine.kv_type_k)));
    object.Set("kvTypeV", Napi::String::New(env, kv_name(engine.kv_type_v)));
    object.Set("kvBytes", Napi::Number::New(env, double(engine.kv_bytes)));
    object.Set("activationBytes", Napi::Number::New(env, double(engine.activation_bytes)));
    return object;
  });
}

Napi::Value EngineObject::submit(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto engine = session().engine();
    const uint64_t request = engine->submit(read_spec(info, session()));
    session().opened(info.Env(), request);
    return Napi::Number::New(info.Env(), double(request));
  });
}

Napi::Value EngineObject::embed(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto engine = session().engine();
    const uint64_t request = engine->embed(read_embed_spec(info));
    session().opened(info.Env(), request);
    return Napi::Number::New(info.Env(), double(request));
  });
}

Napi::Value EngineObject::cancel(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    session().unwanted(request_argument(info));
    session().engine()->cancel(request_argument(info));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::acknowledge(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    session().drop_rows(request_argument(info));
    session().engine()->acknowledge(request_argument(info));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::provide(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    session().drop_rows(request_argument(info));
    session().engine()->provide(request_argument(info), float32_elements(info[1], "logits"));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::pause(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    session().engine()->pause(request_argument(info));
    session().paused(info.Env(), request_argument(info));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::forget(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    StateScope scope;
    read_scope(object_argument(info, 0), scope);
    session().engine()->forget(shared_scope(scope.cache_scope, scope.adapter.get(), scope.adapter_scale));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::resume(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    session().engine()->resume(request_argument(info));
    session().resumed(info.Env(), request_argument(info));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const EngineStats stats = session().engine()->stats();
    auto object = Napi::Object::New(env);
    const auto set = [&](const char* name, auto value) {
      object.Set(name, Napi::Number::New(env, double(value)));
    };
    set("running", stats.running);
    set("waiting", stats.waiting);
    set("paused", stats.paused);
    set("requests", stats.requests);
    set("finished", stats.finished);
    set("cancelled", stats.cancelled);
    set("failed", stats.failed);
    set("refused", stats.refused);
    set("promptTokens", stats.prompt_tokens);
    set("cachedTokens", stats.cached_tokens);
    set("completionTokens", stats.completion_tokens);
    set("draftTokens", stats.draft_tokens);
    set("acceptedDraftTokens", stats.accepted_draft_tokens);
    set("setAside", stats.set_aside);
    set("steps", stats.steps);
    set("rows", stats.rows);
    set("kvBlocks", stats.kv_blocks);
    set("kvHeld", stats.kv_held);
    set("kvIdle", stats.kv_idle);
    object.Set("step", histogram_value(env, stats.step));
    object.Set("batch", histogram_value(env, stats.batch));
    object.Set("firstToken", histogram_value(env, stats.first_token));
    object.Set("betweenTokens", histogram_value(env, stats.between_tokens));
    return object;
  });
}

Napi::Value EngineObject::rows(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto from = integer_argument(info, 1, 0, INT_MAX);
    const auto count = integer_argument(info, 2, 0, INT_MAX);
    return session().rows(info.Env(), request_argument(info), size_t(from), size_t(count));
  });
}

Napi::Value EngineObject::load_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return AdapterObject::load(info.Env(), session().model(), object_argument(info, 0),
                               function_argument(info, 1));
  });
}

Napi::Value EngineObject::save_state(const Napi::CallbackInfo& info) {
  return transfer(info, true);
}

Napi::Value EngineObject::load_state(const Napi::CallbackInfo& info) {
  return transfer(info, false);
}

Napi::Value EngineObject::transfer(const Napi::CallbackInfo& info, bool saves) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    session().engine();  // throws where it has ended
    const auto job = std::make_shared<StateJob>();
    Environment::of(env).jobs->add(job);
    const std::string path = string_argument(info, 0);
    const Napi::Object options = object_argument(info, 1);
    StateScope scope;
    read_scope(options, scope);
    std::optional<std::vector<int32_t>> prompt;
    uint64_t most = 0;
    if (saves) {
      const Napi::Value given = options.Get("prompt");
      if (!given.IsNull()) prompt = int32_elements(given, "prompt");
      most = uint64_t(integer_field(options, "maxBytes", 0, kMaxRequest));
    }
    const Napi::Value cancel = Napi::Function::New(
        env,
        [weak = std::weak_ptr<StateJob>(job)](const Napi::CallbackInfo&) {
          if (const auto alive = weak.lock()) alive->stop();
        },
        "cancelState");
    run_task(
        env, function_argument(info, 2),
        [job, session = session_, path, scope, prompt = std::move(prompt), most, saves] {
          const EngineAccess engine = [&session] { return session->engine(); };
          job->report = saves ? inhouse::save_state(engine, path, scope, prompt, most, job->stopped)
                              : inhouse::load_state(engine, path, scope, job->stopped);
        },
        [job](Napi::Env later) -> Napi::Value {
          auto object = Napi::Object::New(later);
          object.Set("blocks", Napi::Number::New(later, double(job->report.blocks)));
          object.Set("bytes", Napi::Number::New(later, double(job->report.bytes)));
          return object;
        });
    return cancel;
  });
}

Napi::Value EngineObject::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    session();
    run_task(
        info.Env(), function_argument(info, 0),
        [session = session_, engine = session_->take_engine()]() mutable { engine.reset(); },
        [session = session_](Napi::Env env) {
          session->closed_all(env);
          Environment::of(env).callbacks->drop(session->events_callback());
          return env.Undefined();
        });
    return info.Env().Undefined();
  });
}

}  // namespace inhouse::addon
