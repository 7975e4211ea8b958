// Built-in functions that end the process where they make something larger than V8 10.2 can represent (an array of more
// than about 2^27 elements, a table of more than 2^25), and that look for a cancel only when they are done. For arguments
// that large, ordinary JavaScript does their work instead: a cancel and the heap limit end it as any other loop.
#include "host.h"

#include <v8-extension.h>

#include <memory>

namespace host {
namespace {

// Nothing below this many elements or characters is touched. Arrays made with a greater length have a table for elements.
constexpr char kReplaceBuiltins[] = R"js((function () {
  'use strict';
  const large = 2 ** 25, largestArray = 2 ** 27 - 3;
  const { apply } = Reflect, { isArray } = Array, { max, min, trunc } = Math;
  const { fill, join, sort } = Array.prototype, { split, indexOf, slice } = String.prototype;
  const { push } = Array.prototype, { exec } = RegExp.prototype;
  const { from } = Array, { parse } = JSON, MakeRegExp = RegExp, SplitSymbol = Symbol.split;
  const tooLong = () => new RangeError('Invalid array length');
  const lengthOf = (list) => (list === null || list === undefined ? 0 : list.length);
  const isLarge = (list) => lengthOf(list) > large;

  function splitByText(text, separator, most) {
    const parts = [];
    let start = 0;
    while (parts.length < most) {
      const end = separator === '' ? start + 1 : apply(indexOf, text, [separator, start]);
      if (end < 0 || (separator === '' && end >= text.length)) break;
      apply(push, parts, [apply(slice, text, [start, end])]);
      start = end + separator.length;
    }
    if (parts.length < most) apply(push, parts, [apply(slice, text, [start])]);
    return parts;
  }

  function splitByPattern(text, separator, most) {
    const flags = (separator.ignoreCase ? 'i' : '') + (separator.multiline ? 'm' : '') + (separator.dotAll ? 's' : '') +
      (separator.unicode ? 'u' : '');
    const finder = new MakeRegExp(separator.source, flags + 'g');
    const parts = [];
    let start = 0;
    while (parts.length < most) {
      const match = apply(exec, finder, [text]);
      if (match === null || match.index >= text.length) break;
      if (finder.lastIndex === start) {
        finder.lastIndex++;
        continue;
      }
      apply(push, parts, [apply(slice, text, [start, match.index])]);
      for (let i = 1; i < match.length && parts.length < most; i++) apply(push, parts, [match[i]]);
      start = finder.lastIndex;
      if (match[0] === '') finder.lastIndex++;
    }
    if (parts.length < most) apply(push, parts, [apply(slice, text, [start])]);
    return parts;
  }

  function define(object, methods) {
    for (const name of Object.keys(methods)) {
      Object.defineProperty(object, name, { value: methods[name], writable: true, configurable: true, enumerable: false });
    }
  }

  define(String.prototype, {
    split(separator, limit) {
      if (!(typeof this === 'string' && this.length > large)) return apply(split, this, [separator, limit]);
      const most = limit === undefined ? 2 ** 32 - 1 : limit >>> 0;
      const text = `${this}`;
      if (separator instanceof MakeRegExp) return splitByPattern(text, separator, most);
      if (separator === undefined || (typeof separator === 'object' && separator !== null && separator[SplitSymbol])) {
        return apply(split, text, [separator, limit]);
      }
      return splitByText(text, `${separator}`, most);
    },
  });
  define(JSON, {
    parse(text, reviver) {
      if (typeof text === 'string' && text.length > largestArray) {
        let commas = 0;
        for (let at = apply(indexOf, text, [',']); at >= 0; at = apply(indexOf, text, [',', at + 1])) commas++;
        if (commas >= largestArray) throw tooLong();
      }
      return parse(text, reviver);
    },
  });
  define(Array, {
    from(items, map, self) {
      if (this !== Array || typeof items === 'string' || !isLarge(items) ||
          (items[Symbol.iterator] !== undefined && items[Symbol.iterator] !== null)) {
        return apply(from, this, arguments);
      }
      const out = [];
      for (let i = 0; i < items.length; i++) {
        apply(push, out, [map === undefined ? items[i] : apply(map, self, [items[i], i])]);
      }
      return out;
    },
  });
  define(Array.prototype, {
    fill(value, start, end) {
      if (!isLarge(this)) return apply(fill, this, arguments);
      const length = this.length;
      const place = (at, otherwise) => {
        const n = at === undefined ? otherwise : trunc(at) || 0;
        return n < 0 ? max(length + n, 0) : min(n, length);
      };
      const last = place(end, length);
      for (let i = place(start, 0); i < last; i++) this[i] = value;
      return this;
    },
    join(separator) {
      if (isArray(this) || !isLarge(this)) return apply(join, this, arguments);
      const between = separator === undefined ? ',' : `${separator}`;
      let text = '';
      for (let i = 0; i < this.length; i++) {
        const item = this[i];
        text += (i === 0 ? '' : between) + (item === null || item === undefined ? '' : `${item}`);
      }
      return text;
    },
    sort(compare) {
      if (!isArray(this) && lengthOf(this) > largestArray) throw tooLong();
      return apply(sort, this, arguments);
    },
  });
})())js";

}  // namespace

const char* kBuiltins = "hartonomous_v8/builtins";

// An extension of V8: its functions appear in no stack trace, and an error inside names the line that called.
void register_builtins() { v8::RegisterExtension(std::make_unique<v8::Extension>(kBuiltins, kReplaceBuiltins)); }

}  // namespace host
