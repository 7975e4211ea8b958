// Strings both ways: JavaScript's UTF-16, V8's UTF-8, the database's encoding.
#include "host.h"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace host {
namespace {

v8::Isolate* current() { return v8::Isolate::GetCurrent(); }

}  // namespace

v8::Local<v8::String> js_string(const char* text) { return js_string(std::string(text)); }

v8::Local<v8::String> js_string(const std::string& text) {
  v8::Isolate* isolate = current();
  const char* data = text.data();
  int size = static_cast<int>(text.size());
  if (GetDatabaseEncoding() != PG_UTF8) {
    char* converted = nullptr;
    guarded([&] { converted = pg_server_to_any(data, size, PG_UTF8); });
    if (converted != data) {
      data = converted;
      size = static_cast<int>(strlen(converted));
    }
  }
  v8::Local<v8::String> out;
  if (!v8::String::NewFromUtf8(isolate, data, v8::NewStringType::kNormal, size).ToLocal(&out)) {
    isolate->ThrowException(v8::Exception::RangeError(v8::String::NewFromUtf8Literal(isolate, "string is too long")));
    throw JsPending{};
  }
  return out;
}

std::string std_string(v8::Local<v8::Value> value) {
  v8::Local<v8::String> string;
  if (!value->ToString(current()->GetCurrentContext()).ToLocal(&string)) throw JsPending{};
  v8::String::Utf8Value text(current(), string);
  if (*text == nullptr) throw_js("string could not be read");
  return std::string(*text, text.length());
}

char* pg_string(v8::Local<v8::Value> value) {
  v8::Local<v8::String> string;
  if (!value->ToString(current()->GetCurrentContext()).ToLocal(&string)) throw JsPending{};
  v8::String::Utf8Value text(current(), string);
  if (*text == nullptr) throw_js("string could not be read");
  const char* data = *text;
  int size = text.length();
  char* out = nullptr;
  guarded([&] {
    if (memchr(data, 0, size) != nullptr) {
      ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
                      errmsg("invalid byte sequence for encoding \"UTF8\": 0x00")));
    }
    char* copy = pnstrdup(data, size);
    out = pg_any_to_server(copy, size, PG_UTF8);
  });
  return out;
}

bool js_property(v8::Local<v8::Object> object, const char* name, v8::Local<v8::Value>* out) {
  v8::Isolate* isolate = current();
  v8::Local<v8::String> key = v8::String::NewFromUtf8(isolate, name).ToLocalChecked();
  return object->Get(isolate->GetCurrentContext(), key).ToLocal(out);
}

}  // namespace host
