// Errors are values of one type with a stable code; the JavaScript side shows them as InhouseError.
//
// Code below the engine throws Error (or lets std::bad_alloc pass). Every thread and every entry point
// catches at its edge with `describe_current_exception`, so nothing thrown ever leaves the core.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <utility>

namespace inhouse {

// One row per code: the enumerator and the text after "ERR_INHOUSE_". docs/errors.md and lib/errors.ts list
// the same codes; a test holds the three together.
#define INHOUSE_ERROR_CODES(X)                                                                         \
  X(invalid_argument, "INVALID_ARGUMENT")                 /* an option of wrong type or range */       \
  X(file_not_found, "FILE_NOT_FOUND")                     /* the path does not exist */                \
  X(file_read, "FILE_READ")                               /* the operating system refused a read */    \
  X(file_write, "FILE_WRITE")                             /* the operating system refused a write */   \
  X(state_invalid, "STATE_INVALID")                       /* a saved state is damaged or foreign */    \
  X(state_empty, "STATE_EMPTY")                           /* there is no state to save */              \
  X(file_changed, "FILE_CHANGED")                         /* a file shrank or changed while in use */  \
  X(gguf_magic, "GGUF_MAGIC")                             /* not a GGUF file */                        \
  X(gguf_version, "GGUF_VERSION")                         /* version 1, big-endian, or unknown */      \
  X(gguf_truncated, "GGUF_TRUNCATED")                     /* the file ends inside a field or tensor */ \
  X(gguf_invalid, "GGUF_INVALID")                         /* a field's value contradicts the format */ \
  X(gguf_split, "GGUF_SPLIT")                             /* a part is missing or does not belong */   \
  X(unsupported_type, "UNSUPPORTED_TYPE")                 /* tensor type unknown */                    \
  X(unsupported_architecture, "UNSUPPORTED_ARCHITECTURE") /* general.architecture unknown */           \
  X(unsupported_tokenizer, "UNSUPPORTED_TOKENIZER")       /* tokenizer model or pre-tokenizer */       \
  X(model_invalid, "MODEL_INVALID")                       /* hyperparameters or tensor shapes wrong */ \
  X(adapter_invalid, "ADAPTER_INVALID")                   /* no adapter, or not for this model */      \
  X(device_unavailable, "DEVICE_UNAVAILABLE")             /* device or instruction set not present */  \
  X(device_lost, "DEVICE_LOST")                           /* a GPU faulted or is gone */               \
  X(out_of_memory, "OUT_OF_MEMORY")                       /* an allocation failed */                   \
  X(memory_lock, "MEMORY_LOCK")                           /* the system refused to lock memory */      \
  X(context_overflow, "CONTEXT_OVERFLOW")                 /* prompt longer than the context */         \
  X(token_out_of_range, "TOKEN_OUT_OF_RANGE")             /* a token id outside the vocabulary */      \
  X(queue_full, "QUEUE_FULL")                             /* too many requests wait */                 \
  X(timeout, "TIMEOUT")                                   /* a request took longer than it may */      \
  X(numeric, "NUMERIC")                                   /* the model produced NaN or infinity */     \
  X(disposed, "DISPOSED")                                 /* the model was disposed of */              \
  X(aborted, "ABORTED")                                   /* cancelled by its caller */                \
  X(internal, "INTERNAL")                                 /* a defect in inhouse itself */

enum class Code : uint8_t {
#define X(name, text) name,
  INHOUSE_ERROR_CODES(X)
#undef X
};

// "ERR_INHOUSE_…", a string with static lifetime.
const char* code_name(Code code);

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  Code code_;
  std::string message_;
};

// An Error for the exception being handled: an Error as it is, bad_alloc as out_of_memory, others as
// internal. For use inside a catch block. Needs no memory where there is none.
Error describe_current_exception() noexcept;

// "12 MB" for a message, rounded up.
std::string megabytes(uint64_t bytes);

}  // namespace inhouse
