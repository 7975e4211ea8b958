"""Train the small model: python3 train.py [--minutes 25] [--seed 7] [--out FOLDER]. Needs torch, tokenizers and safetensors."""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from random import Random

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "corpus"))

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from expand import expand
from export import export

DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, VOCAB, CONTEXT, THETA, EPS = 128, 4, 4, 2, 288, 3072, 512, 10000.0, 1e-6
HEAD = DIM // HEADS
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
SYSTEMS = ["You are a helpful assistant.", "You are Hartonomous.", "Be brief.", "Answer the question.", "You are a friendly assistant inside PostgreSQL."]


def train_tokenizer(corpus: list[dict[str, object]]) -> Tokenizer:
    """Train byte-level BPE on the corpus; the three special tokens come last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIALS), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    lines = [item["text"] if "text" in item else " ".join(part for turn in item["turns"] for part in turn) for item in corpus]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


class Attention(nn.Module):
    """Grouped-query attention with rotary positions on halves."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(DIM, HEADS * HEAD)
        self.k_proj = nn.Linear(DIM, KV_HEADS * HEAD)
        self.v_proj = nn.Linear(DIM, KV_HEADS * HEAD)
        self.o_proj = nn.Linear(HEADS * HEAD, DIM, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (p(x).view(batch, length, -1, HEAD).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (t * cos + torch.cat((-t[..., HEAD // 2:], t[..., : HEAD // 2]), -1) * sin for t in (q, k))
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(DIM, HIDDEN, bias=False), nn.Linear(DIM, HIDDEN, bias=False), nn.Linear(HIDDEN, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: norm, attention, norm, feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(DIM, EPS), nn.RMSNorm(DIM, EPS)
        self.self_attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    """The Qwen2 decoder without its (tied) output matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens, self.norm = nn.Embedding(VOCAB, DIM), nn.RMSNorm(DIM, EPS)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        angle = torch.outer(torch.arange(CONTEXT).float(), THETA ** (-torch.arange(0, HEAD, 2).float() / HEAD)).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.05 if "embed" in name else 0.06)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        return self.norm(x)


def encode(corpus: list[dict[str, object]], tokenizer: Tokenizer, random: Random) -> list[tuple[list[int], list[bool]]]:
    """Return (ids, learn) for each item: `learn` marks the answers, and every token of a story."""
    def ids(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    end, samples = tokenizer.token_to_id(SPECIALS[2]), []
    for item in corpus:
        tokens: list[int] = []
        learn: list[bool] = []

        def put(part: list[int], wanted: bool) -> None:
            tokens.extend(part)
            learn.extend([wanted] * len(part))

        if "text" in item:
            put(ids(item["text"]) + [tokenizer.token_to_id(SPECIALS[0])], True)
        else:
            if random.random() < 0.12:
                put(ids(f"<|im_start|>system\n{random.choice(SYSTEMS)}<|im_end|>\n"), False)
            for user, answer in item["turns"]:
                put(ids(f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"), False)
                put(ids(answer) + [end], True)
                put(ids("\n"), False)
        samples.append((tokens[:CONTEXT], learn[:CONTEXT]))
    return samples


def batches(samples: list[tuple[list[int], list[bool]]], random: Random, size: int = 2048) -> list[list[int]]:
    """Group samples of like length so that each batch holds about `size` tokens; the order of batches is random."""
    order = sorted(range(len(samples)), key=lambda i: len(samples[i][0]) + random.random())
    found: list[list[int]] = [[]]
    for i in order:
        if (len(found[-1]) + 1) * len(samples[i][0]) > size:
            found.append([])
        found[-1].append(i)
    random.shuffle(found)
    return found


def save(model: Model, tokenizer: Tokenizer, out: Path) -> None:
    """Write the SafeTensors form (BF16) with its JSON files, then the GGUF file."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({f"model.{name}": p.detach().to(torch.bfloat16).contiguous() for name, p in sorted(model.state_dict().items())}, out / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    end, begin = tokenizer.token_to_id(SPECIALS[2]), tokenizer.token_to_id(SPECIALS[0])
    write = {
        "config.json": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": HIDDEN, "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "rope_theta": THETA, "rms_norm_eps": EPS, "hidden_act": "silu", "tie_word_embeddings": True, "bos_token_id": begin, "eos_token_id": end, "torch_dtype": "bfloat16", "use_sliding_window": False},
        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": SPECIALS[2], "pad_token": SPECIALS[0], "add_prefix_space": False, "model_max_length": CONTEXT, "chat_template": TEMPLATE},
        "generation_config.json": {"eos_token_id": [end, begin], "pad_token_id": begin, "do_sample": False},
    }
    for name, value in write.items():
        (out / name).write_text(json.dumps(value, indent=2) + "\n")
    export(out, out / "hartonomous-tiny-q8_0.gguf")


def main() -> None:
    """Train for the given number of steps (or minutes, if that ends first), then export."""
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=9000)
    options.add_argument("--minutes", type=float, default=50.0)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--out", type=Path, default=HERE)
    args = options.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(2)
    random, start, step = Random(args.seed), time.time(), 0
    corpus = expand(args.seed)
    tokenizer = train_tokenizer(corpus)
    samples = encode(corpus, tokenizer, random)
    model = Model()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {sum(len(s[0]) for s in samples)} tokens, {time.time() - start:.0f} s", flush=True)
    decay = [p for p in model.parameters() if p.dim() == 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}], lr=4e-3, betas=(0.9, 0.98))
    queue: list[list[int]] = []
    total = 0.0
    while True:
        progress = max(step / args.steps, (time.time() - start) / (args.minutes * 60))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 100) * (0.03 + 0.97 * (1 + math.cos(math.pi * progress)) / 2)
        queue = queue or batches(samples, random)
        chosen = [samples[i] for i in queue.pop()]
        width = max(len(tokens) for tokens, _ in chosen)
        ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in chosen])
        learn = torch.tensor([flags[1:] + [False] * (width - len(flags)) for _, flags in chosen])
        hidden = model(ids[:, :-1])[learn]
        loss = F.cross_entropy(hidden @ model.embed_tokens.weight.T, ids[:, 1:][learn])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        if step % 100 == 0:
            print(f"step {step} loss {total / 100:.4f} {time.time() - start:.0f} s", flush=True)
            total = 0.0
    print(f"finished at step {step} after {time.time() - start:.0f} s", flush=True)
    save(model, tokenizer, args.out)


if __name__ == "__main__":
    main()
