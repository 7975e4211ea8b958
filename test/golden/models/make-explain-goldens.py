#!/usr/bin/env python3
"""make-explain-goldens.py - what explanations of the F32 test models must say, in float64 numpy, apart from the engine's code.
  python3 make-explain-goldens.py OUT.json FILE.gguf GOLDEN.json [FILE.gguf GOLDEN.json ...]
For two prompts of each golden: the greedy token and the runner-up after the prompt, then direct logit attribution of every
part, the logit lens, attention of every head at the last position, attention rollout (Abnar and Zuidema 2020) and
norm-weighted attention (Kobayashi et al. 2020). Only F32 tensors are read. Needs numpy."""
import json, os, struct, sys
import numpy as np


def gguf(path):
    b = open(path, 'rb').read()
    p = 4
    def rd(f):
        nonlocal p
        v = struct.unpack_from('<' + f, b, p)
        p += struct.calcsize('<' + f)
        return v[0]
    def text():
        nonlocal p
        n = rd('Q')
        p += n
        return b[p - n:p].decode()
    kinds = {0: 'B', 1: 'b', 2: 'H', 3: 'h', 4: 'I', 5: 'i', 6: 'f', 7: '?', 10: 'Q', 11: 'q', 12: 'd'}
    def value(t):
        if t == 8:
            return text()
        if t == 9:
            e = rd('I')
            return [value(e) for _ in range(rd('Q'))]
        return rd(kinds[t])
    assert b[:4] == b'GGUF' and rd('I') == 3
    n_tensors, n_keys = rd('Q'), rd('Q')
    meta = {}
    for _ in range(n_keys):
        key = text()
        meta[key] = value(rd('I'))
    infos = [(text(), [rd('Q') for _ in range(rd('I'))], rd('I'), rd('Q')) for _ in range(n_tensors)]
    base = (p + 31) // 32 * 32
    weights = {}
    for name, dims, kind, offset in infos:
        assert kind == 0, (name, kind)
        weights[name] = np.frombuffer(b, '<f4', int(np.prod(dims)), base + offset).reshape(dims[::-1]).astype(np.float64)
    return meta, weights


def softmax(a):
    a = np.exp(a - a.max(-1, keepdims=True))
    return a / a.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


class Norm:
    """An RMS or layer norm; frozen at a vector it is an affine map."""
    def __init__(self, w, b, eps):
        self.w, self.b, self.eps = w, b, eps
    def stats(self, x):
        mean = x.mean(-1, keepdims=True) if self.b is not None else np.zeros_like(x[..., :1])
        return mean, np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + self.eps)
    def __call__(self, x):
        mean, size = self.stats(x)
        return (x - mean) / size * self.w + (0 if self.b is None else self.b)
    def part(self, x, piece):
        """What `piece`, a summand of x, becomes under the norm frozen at x."""
        _, size = self.stats(x)
        centre = piece.mean(-1, keepdims=True) if self.b is not None else 0
        return (piece - centre) / size * self.w


def rope(x, base, halves, factors):
    t, _, hd = x.shape
    f = base ** (-np.arange(0, hd, 2) / hd)
    if factors is not None:
        f = f / factors
    c, s = np.cos(np.outer(np.arange(t), f))[:, None], np.sin(np.outer(np.arange(t), f))[:, None]
    y = np.empty_like(x)
    if halves:
        a, b = x[..., :hd // 2], x[..., hd // 2:]
        y[..., :hd // 2], y[..., hd // 2:] = a * c - b * s, a * s + b * c
    else:
        a, b = x[..., 0::2], x[..., 1::2]
        y[..., 0::2], y[..., 1::2] = a * c - b * s, a * s + b * c
    return y


def explain(meta, w, ids, change=None):
    """With `change`, only the logits after the last id: it sees, and returns, what heads, neurons and networks of a layer write."""
    changed = change or (lambda to, layer, rows: rows)
    arch = meta['general.architecture']
    g = lambda key, default=None: meta.get(arch + '.' + key, default)
    n_layers, dim, heads = g('block_count'), g('embedding_length'), g('attention.head_count')
    kv_heads = g('attention.head_count_kv', heads)
    hd = g('attention.key_length', dim // heads)
    eps = g('attention.layer_norm_rms_epsilon') or g('attention.layer_norm_epsilon')
    base = g('rope.freq_base', 10000.0)
    t = len(ids)
    gemma = arch in ('gemma2', 'gemma3')
    x = w['token_embd.weight'][ids] * (np.sqrt(dim) if gemma else 1)
    # Pieces of the residual stream at the last position; their sum is the stream.
    pieces = [('embedding', -1, -1, x[-1].copy())]
    if arch == 'gpt2':
        x = x + w['position_embd.weight'][:t]
        pieces.append(('position', -1, -1, w['position_embd.weight'][t - 1]))
    streams, attention, shares = [x[-1].copy()], [], []
    roll = []
    for i in range(n_layers):
        get = lambda name: w.get(f'blk.{i}.{name}')
        def norm(name):
            return Norm(get(name + '.weight'), get(name + '.bias'), eps)
        def linear(h, name):
            y = h @ get(name + '.weight').T
            return y if get(name + '.bias') is None else y + get(name + '.bias')
        h = norm('attn_norm')(x)
        if get('attn_qkv.weight') is not None:
            y = linear(h, 'attn_qkv')
            q, k, v = y[:, :heads * hd], y[:, heads * hd:(heads + kv_heads) * hd], y[:, (heads + kv_heads) * hd:]
        else:
            q, k, v = linear(h, 'attn_q'), linear(h, 'attn_k'), linear(h, 'attn_v')
        q, k, v = q.reshape(t, heads, hd), k.reshape(t, kv_heads, hd), v.reshape(t, kv_heads, hd)
        if get('attn_q_norm.weight') is not None:
            q, k = norm('attn_q_norm')(q), norm('attn_k_norm')(k)
        window = g('attention.sliding_window', 0) if gemma else 0
        every = {'gemma2': 2, 'gemma3': 6}.get(arch, 1)
        local = window and i % every != every - 1
        if arch != 'gpt2':
            b = 10000.0 if arch == 'gemma3' and local else base
            q, k = (rope(each, b, arch != 'llama', w.get('rope_freqs.weight')) for each in (q, k))
        k, v = np.repeat(k, heads // kv_heads, 1), np.repeat(v, heads // kv_heads, 1)
        a = np.einsum('ihd,jhd->hij', q, k) / np.sqrt(hd)
        if g('attn_logit_softcapping'):
            a = g('attn_logit_softcapping') * np.tanh(a / g('attn_logit_softcapping'))
        ii, jj = np.arange(t)[:, None], np.arange(t)[None]
        a = np.where(jj > ii, -np.inf, a)
        if local:
            a = np.where(ii - jj >= window, -np.inf, a)
        a = softmax(a)
        attention.append(a[:, -1, :])
        roll.append(0.5 * a.mean(0) + 0.5 * np.eye(t))
        out_w = get('attn_output.weight').reshape(dim, heads, hd)
        written = np.einsum('jhd,mhd->hjm', v, out_w)  # what each position's value becomes in the stream, by head
        size = a[:, -1, :] * np.linalg.norm(written, axis=-1)
        shares.append(size.sum(0) / size.sum())
        by_head = np.einsum('hj,hjm->hm', a[:, -1, :], written)
        out = linear(changed('heads', i, np.einsum('hij,jhd->ihd', a, v).reshape(t, heads * hd)), 'attn_output')
        bias = get('attn_output.bias')
        if get('post_attention_norm.weight') is not None:
            post = norm('post_attention_norm')
            by_head = np.stack([post.part(out[-1], each) for each in by_head])
            out = post(out)
        pieces += [('head', i, n, each) for n, each in enumerate(by_head)]
        if bias is not None:
            pieces.append(('attention_bias', i, -1, bias))
        x = x + out
        h = norm('ffn_norm')(x)
        if arch == 'gpt2':
            f = linear(changed('neurons', i, gelu(linear(h, 'ffn_up'))), 'ffn_down')
        elif arch == 'phi3':
            y = linear(h, 'ffn_up')
            n = y.shape[1] // 2
            f = linear(changed('neurons', i, silu(y[:, :n]) * y[:, n:]), 'ffn_down')
        else:
            f = linear(changed('neurons', i, (gelu if gemma else silu)(linear(h, 'ffn_gate')) * linear(h, 'ffn_up')), 'ffn_down')
        if get('post_ffw_norm.weight') is not None:
            f = norm('post_ffw_norm')(f)
        f = changed('ffn', i, f)
        bias = get('ffn_down.bias')
        pieces.append(('ffn', i, -1, f[-1] - (0 if bias is None else bias)))
        if bias is not None:
            pieces.append(('ffn_bias', i, -1, bias))
        x = x + f
        streams.append(x[-1].copy())
    final = Norm(w['output_norm.weight'], w.get('output_norm.bias'), eps)
    unembedding = w.get('output.weight', w['token_embd.weight'])
    def logits(stream):
        y = final(stream) @ unembedding.T
        cap = g('final_logit_softcapping')
        return cap * np.tanh(y / cap) if cap else y
    y = logits(x[-1])
    if change:
        return y
    chosen, other = np.argsort(-y, kind='stable')[:2]
    components = [[kind, layer, head] + [float(final.part(x[-1], piece) @ unembedding[one]) for one in (chosen, other)]
                  for kind, layer, head, piece in pieces]
    if final.b is not None:
        components.append(['norm_bias', n_layers, -1] + [float(final.b @ unembedding[one]) for one in (chosen, other)])
    total = sum(each[3] for each in components)
    uncapped = float(final(x[-1]) @ unembedding[chosen])
    assert abs(total - uncapped) < 1e-9 * max(1, abs(uncapped)), (total, uncapped)
    lens = []
    for stream in streams:
        p = softmax(logits(stream))
        order = np.argsort(-p, kind='stable')
        lens.append([int(np.where(order == chosen)[0][0]) + 1, float(p[chosen]), [int(o) for o in order[:5]]])
    product = np.eye(t)
    for each in roll:
        product = each @ product
    digits = lambda a: [float('%.7g' % v) for v in np.asarray(a).ravel()]
    return {
        'ids': [int(i) for i in ids], 'chosen': int(chosen), 'other': int(other), 'logit': float(y[chosen]),
        'components': [each[:3] + digits(each[3:]) for each in components], 'lens': lens,
        'attention': [[digits(row) for row in layer] for layer in attention],
        'rollout': digits(product[-1]), 'value_weighted': digits(np.mean(shares, axis=0)),
    }


if __name__ == '__main__':
    out = {}
    for path, golden in zip(sys.argv[2::2], sys.argv[3::2]):
        meta, weights = gguf(path)
        prompts = json.load(open(golden))['prompts']
        name = os.path.basename(path)
        # The second prompt, and the last one cut to what is behind the sliding windows.
        out[name] = [explain(meta, weights, prompts[1]['ids']), explain(meta, weights, prompts[3]['ids'][:24])]
        print(name, [(each['chosen'], round(each['logit'], 3)) for each in out[name]])
    json.dump(out, open(sys.argv[1], 'w'), separators=(',', ':'))
