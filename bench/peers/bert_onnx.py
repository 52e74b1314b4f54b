"""BERT for onnxruntime: a worker that is sent texts and answers with vectors, both as lines of JSON.

    python bert_onnx.py FOLDER THREADS

Runs in a Python of its own with onnx, onnxruntime, tokenizers and safetensors. The graph is written here, of the
operations that exporters write; texts go through it sorted by length, 32 at a time, padded, as sentence-transformers
does. Nothing of mlxrun is imported.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

BATCH, LONGEST = 32, 256


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.kept, self.count = weights, [], [], 0

    def op(self, kind, *inputs, **how):
        self.count += 1
        out = f"t{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **how))
        return out

    def const(self, value):
        self.count += 1
        self.kept.append(numpy_helper.from_array(np.asarray(value), f"c{self.count}"))
        return f"c{self.count}"

    def linear(self, x, name):
        y = self.op("MatMul", x, self.const(self.weights[name + ".weight"].T.copy()))
        return self.op("Add", y, self.const(self.weights[name + ".bias"]))

    def norm(self, x, name, eps):
        scale, bias = self.const(self.weights[name + ".weight"]), self.const(self.weights[name + ".bias"])
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)


def graph_of(folder):
    config = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors")
    g = Graph({name.removeprefix("bert."): value for name, value in stored.items()})
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]
    size = config["hidden_size"] // heads
    at = "embeddings."
    x = g.op("Gather", g.const(g.weights[at + "word_embeddings.weight"]), "ids")
    places = g.op("Gather", g.const(g.weights[at + "position_embeddings.weight"]), "places")
    x = g.op("Add", g.op("Add", x, g.const(g.weights[at + "token_type_embeddings.weight"][0])), places)
    x = g.norm(x, at + "LayerNorm", eps)
    apart, joined = g.const(np.array([0, 0, heads, size])), g.const(np.array([0, 0, heads * size]))
    for number in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{number}."
        q, k, v = (
            g.op("Reshape", g.linear(x, f"{at}attention.self.{name}"), apart) for name in ("query", "key", "value")
        )
        q, v = (g.op("Transpose", one, perm=[0, 2, 1, 3]) for one in (q, v))
        scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 3, 1]))
        scores = g.op("Add", g.op("Div", scores, g.const(np.float32(size**0.5))), "mask")
        y = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
        y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), joined)
        y = g.linear(y, at + "attention.output.dense")
        x = g.norm(g.op("Add", x, y), at + "attention.output.LayerNorm", eps)
        y = g.linear(x, at + "intermediate.dense")
        half = g.op("Mul", y, g.const(np.float32(0.5)))
        curve = g.op("Add", g.op("Erf", g.op("Div", y, g.const(np.float32(2**0.5)))), g.const(np.float32(1)))
        y = g.linear(g.op("Mul", half, curve), at + "output.dense")
        x = g.norm(g.op("Add", x, y), at + "output.LayerNorm", eps)
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "l"]),
        helper.make_tensor_value_info("places", TensorProto.INT64, ["l"]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", 1, 1, "l"]),
    ]
    outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)]
    made = helper.make_graph(g.nodes, "bert", inputs, outputs, g.kept)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


class Worker:
    def __init__(self, folder, threads):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = graph_of(folder).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def embed(self, texts):
        ids = [one.ids for one in self.tokenizer.encode_batch(texts)]
        order, out = sorted(range(len(ids)), key=lambda i: -len(ids[i])), [None] * len(ids)
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            width = len(ids[part[0]])
            padded = np.zeros((len(part), width), np.int64)
            seen = np.zeros((len(part), width), np.float32)
            for row, i in enumerate(part):
                padded[row, : len(ids[i])], seen[row, : len(ids[i])] = ids[i], 1
            mask = np.where(seen > 0, np.float32(0), np.float32(-1e9))[:, None, None]
            (rows,) = self.session.run(None, {"ids": padded, "places": np.arange(width), "mask": mask})
            mean = (rows * seen[..., None]).sum(1) / seen.sum(1, keepdims=True)
            for row, i in enumerate(part):
                out[i] = mean[row] / np.linalg.norm(mean[row])
        return out


def main():
    worker = Worker(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        began = time.perf_counter()
        vectors = worker.embed(texts)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "vectors": [vector.tolist() for vector in vectors]}), flush=True)


if __name__ == "__main__":
    main()
