"""Write the GGUF file (Q8_0) from the SafeTensors form. Standard library only; the same weights give the same bytes.

Usage: python3 export.py [folder [output.gguf]]
"""

import json
import struct
import sys
from pathlib import Path

F32, Q8_0, ALIGN = 0, 8, 32
NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight", "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
    **{f"self_attn.{p}_proj.{k}": f"attn_{p}.{k}" for p in "qkv" for k in ("weight", "bias")},
}


def text(value: str) -> bytes:
    """Encode a GGUF string: u64 length, UTF-8."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def field(key: str, value: object) -> bytes:
    """Encode one metadata entry; the type follows from the Python type."""
    if isinstance(value, bool):
        return text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, list) and isinstance(value[0], str):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    if isinstance(value, list):
        return text(key) + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    raise ValueError(f"metadata {key} has unsupported type {type(value).__name__}")


def read_safetensors(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return name -> (shape, float32 values) of a BF16 file."""
    raw = path.read_bytes()
    size = struct.unpack_from("<Q", raw)[0]
    found = {}
    for name, info in json.loads(raw[8:8 + size]).items():
        if name == "__metadata__":
            continue
        if info["dtype"] != "BF16":
            raise ValueError(f"tensor {name} has type {info['dtype']}, expected BF16")
        start, end = (8 + size + at for at in info["data_offsets"])
        halves = struct.unpack(f"<{(end - start) // 2}H", raw[start:end])
        found[name] = (info["shape"], list(struct.unpack(f"<{len(halves)}f", struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)))))
    return found


def q8_0(values: list[float]) -> bytes:
    """Quantise blocks of 32 values to a half-precision scale and 32 int8."""
    out = []
    for at in range(0, len(values), 32):
        block = values[at:at + 32]
        scale = max(map(abs, block)) / 127
        inverse = 1 / scale if scale else 0.0
        out.append(struct.pack("<e32b", scale, *(max(-127, min(127, int(abs(v * inverse) + 0.5) * (1 if v >= 0 else -1))) for v in block)))
    return b"".join(out)


def export(folder: Path, target: Path) -> None:
    """Read config.json, tokenizer.json, tokenizer_config.json and model.safetensors in `folder`; write `target`."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    ids = {**tokenizer["model"]["vocab"], **special}
    tokens = sorted(ids, key=lambda name: ids[name])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    entries = {
        "general.architecture": "qwen2", "general.type": "model", "general.name": "hartonomous tiny", "general.license": "mit", "general.file_type": 7, "general.quantization_version": 2,
        "qwen2.block_count": config["num_hidden_layers"], "qwen2.context_length": config["max_position_embeddings"], "qwen2.embedding_length": config["hidden_size"],
        "qwen2.feed_forward_length": config["intermediate_size"], "qwen2.attention.head_count": config["num_attention_heads"], "qwen2.attention.head_count_kv": config["num_key_value_heads"],
        "qwen2.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]), "qwen2.rope.freq_base": float(config["rope_theta"]),
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": merges, "tokenizer.ggml.bos_token_id": special["<|endoftext|>"], "tokenizer.ggml.eos_token_id": special["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": special["<|endoftext|>"], "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": template,
    }
    infos, data = b"", b""
    weights = read_safetensors(folder / "model.safetensors")
    for name, (shape, values) in weights.items():
        parts = name.split(".", 3)
        gguf = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(name) or f"blk.{parts[2]}.{NAMES[parts[3]]}"
        kind = Q8_0 if len(shape) == 2 else F32
        infos += text(gguf) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data))
        data += q8_0(values) if kind == Q8_0 else struct.pack(f"<{len(values)}f", *values)
        data += bytes(-len(data) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(weights), len(entries)) + b"".join(field(k, v) for k, v in entries.items()) + infos
    target.write_bytes(head + bytes(-len(head) % ALIGN) + data)


if __name__ == "__main__":
    here = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    export(here, Path(sys.argv[2]) if len(sys.argv) > 2 else here / "hartonomous-tiny-q8_0.gguf")
