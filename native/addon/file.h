// A checked GGUF header, for JavaScript to look into. Long arrays are copied out one at a time, when asked
// for.
#pragma once

#include <napi.h>

#include <memory>

#include "native/io/gguf.h"

namespace inhouse::addon {

class FileObject : public Napi::ObjectWrap<FileObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit FileObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FileObject>(info) {}

  // openFile(path, overrides: {list: string[]}, callback(error, file))
  static Napi::Value open(const Napi::CallbackInfo& info);

  // What a load reads from. Throws where this object was closed.
  const std::shared_ptr<const GgufFile>& opened() const;

 private:
  // {path, version, alignment, fileBytes, metadataCount, tensorCount}
  Napi::Value summary(const Napi::CallbackInfo& info);
  // metadata(from, to): [{key, type, value}], arrays as {type, count}
  Napi::Value metadata(const Napi::CallbackInfo& info);
  // array(entry, path): the array of an entry, or nested in it, as {type, count, bytes, offsets}
  Napi::Value array(const Napi::CallbackInfo& info);
  // close(): frees the header; every other call then throws.
  Napi::Value close(const Napi::CallbackInfo& info);
  // tensors(from, to): [{name, type, shape, part, offset, bytes}]
  Napi::Value tensors(const Napi::CallbackInfo& info);

  // attention(): {heads, kvHeads, keyLength, valueLength, windows: number[] of the layers, 0: full}. Throws
  // where the architecture is unknown.
  Napi::Value attention(const Napi::CallbackInfo& info);

  const GgufFile& file() const;
  std::shared_ptr<const GgufFile> file_;
};

}  // namespace inhouse::addon
