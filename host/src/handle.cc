// JavaScript objects that stand for something of the host's: plans, cursors, segments.
#include "host.h"

namespace host {

v8::Local<v8::Object> handle_for(Handle* data) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::Local<v8::Object> object =
      current_instance()->shared->handle_template.Get(isolate)->NewInstance(context).ToLocalChecked();
  object->SetInternalField(0, v8::External::New(isolate, data));
  data->object.Reset(isolate, object);
  data->object.SetWeak(
      data,
      [](const v8::WeakCallbackInfo<Handle>& gone) {
        gone.GetParameter()->object.Reset();
        gone.SetSecondPassCallback([](const v8::WeakCallbackInfo<Handle>& second) { delete second.GetParameter(); });
      },
      v8::WeakCallbackType::kParameter);
  return object;
}

Handle* handle_in(v8::Local<v8::Object> object, Handle::Kind kind, const char* missing) {
  if (object->InternalFieldCount() != 1) throw_js(missing);
  v8::Local<v8::Value> field = object->GetInternalField(0).As<v8::Value>();
  if (field.IsEmpty() || !field->IsExternal()) throw_js(missing);
  Handle* handle = static_cast<Handle*>(field.As<v8::External>()->Value());
  if (handle->kind != kind) throw_js(missing);
  return handle;
}

}  // namespace host
