"""The model card: what the exported model is, how good, and how to load it. Hugging Face's fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.export.bring import SAID
from tuner.records import METRICS, VAL_ACCURACY
from tuner.reporting.markdown import plain, table
from tuner.reporting.report import Document
from tuner.reporting.sentences import data_sentence, headline, judged, percent, value_text, versions_sentence

if TYPE_CHECKING:
    from tuner.export.formats import Written

WORST_PAIRS = 3

LOADING = {
    "keras": """import json, keras
model = keras.saving.load_model("model.keras")
labels = json.load(open("labels.json"))
probabilities = model.predict(images)  # images: uint8 {shape}
print([labels[k] for k in probabilities.argmax(axis=1)])""",
    "saved-model": """import json, tensorflow as tf
model = tf.saved_model.load("saved-model")
labels = json.load(open("labels.json"))
probabilities = model.serve(tf.constant(images)).numpy()  # images: uint8 {shape}
print([labels[k] for k in probabilities.argmax(axis=1)])""",
    "onnx": """import json, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
labels = json.load(open("labels.json"))
(probabilities,) = session.run(None, {{session.get_inputs()[0].name: images}})  # images: uint8 {shape}
print([labels[k] for k in probabilities.argmax(axis=1)])""",
    "litert": """import json
from ai_edge_litert.interpreter import Interpreter
model, labels = Interpreter("model.tflite"), json.load(open("labels.json"))
predict = model.get_signature_runner()
(probabilities,) = predict(**{{name: images for name in predict.get_input_details()}}).values()  # images: uint8 {shape}
print([labels[k] for k in probabilities.argmax(axis=1)])""",
}
TITLES = {"keras": "Keras", "saved-model": "TensorFlow SavedModel", "onnx": "ONNX Runtime", "litert": "LiteRT"}


def model_card(found: Document, written: Sequence[Written]) -> str:
    """Return ``model_card.md`` for what was exported; ``found`` as ``reporting.best.best_document`` returns it."""
    sections = [
        _front_matter(found),
        f"# {_name(found)}",
        _what_it_is(found),
        "## How good it is",
        _accuracy(found),
        *_per_class(found),
        "## Files",
        _files(written),
        "## Load it",
        *_loading(found, written),
        "## How it was made",
        _how(found),
    ]
    return "\n\n".join(sections) + "\n"


def _name(found: Document) -> str:
    if ensemble := found.get("ensemble"):
        return f"{found['study']}, ensemble of {len(ensemble['members'])}"
    return f"{found['study']}, trial {found['best_trial']['number']}"


def _tested(found: Document) -> tuple[float, list[float], int] | None:
    """Return the exported model's test accuracy, its interval and the number of images; None where it has none."""
    if ensemble := found.get("ensemble"):
        return ensemble["test_accuracy"], ensemble["interval_95"], ensemble["n_test"]
    if refit := found["refit"]:
        return refit["test_accuracies"][0], refit["interval_95"], refit["n_test"]
    return None


def _front_matter(found: Document) -> str:
    name, data, tested = json.dumps(found["study"]), json.dumps(found["data"]), _tested(found)
    lines = ["---", "library_name: keras", "pipeline_tag: image-classification", "tags:", "- image-classification",
             "- tuner", "datasets:", f"- {data}", "metrics:", "- accuracy"]  # fmt: skip
    if tested:
        lines += ["model-index:", f"- name: {name}", "  results:", "  - task:", "      type: image-classification",
                  "    dataset:", f"      name: {data}", f"      type: {data}", "      split: test", "    metrics:",
                  "    - type: accuracy", f"      value: {tested[0]:.4f}"]  # fmt: skip
    return "\n".join([*lines, "---"])


def _what_it_is(found: Document) -> str:
    labels, sized = found["classes"], found.get("ensemble") or found["best_trial"]
    height, width, channels = found["input_shape"]
    kind = "Convolutional networks, joined by a weighted vote," if found.get("ensemble") else "A convolutional network"
    if found.get("hypermodel"):
        one = "Networks" if found.get("ensemble") else "A network"
        kind = f"{one} of the KerasTuner hypermodel `{found['hypermodel']}`"
        kind += ", joined by a weighted vote," * bool(found.get("ensemble"))
    order = ", ".join(map(plain, labels))
    size = f"{sized['parameters']:,} parameters, {sized['multiply_adds']:,} multiply-adds an image"
    return "\n".join([
        f"{kind} for {len(labels)} classes of {height}x{width} images with {channels} channel(s), found by `tuner`.",
        "",
        f"- **Input**: raw pixels, uint8 0-255, shape (batch, {height}, {width}, {channels}), any batch size. Scaling "
        "is part of the model.",
        f"- **Output**: probabilities, float32, shape (batch, {len(labels)}), in this order: {order}.",
        f"- **Size**: {size}.",
        f"- **Pictures of other sizes**: `tuner predict` has each one {SAID[found.get('bring') or 'trimmed']}.",
    ])  # fmt: skip


def _accuracy(found: Document) -> str:
    best, refit, ensemble, tested = found["best_trial"], found["refit"], found.get("ensemble"), _tested(found)
    metric = best.get("metric", VAL_ACCURACY)
    if tested is None:
        return (
            f"{METRICS[metric].capitalize()} {percent(judged(best))} after {best['epochs']} epochs, on images that "
            "chose it among others: it looks better than it is. It was not trained again, and never saw the test set."
        )
    accuracy, (low, high), images = tested
    right = f"{percent(accuracy)} of {images:,} test images are right (95 % Wilson interval "
    right += f"{100 * low:.2f} to {100 * high:.2f} %)"
    if ensemble:
        alike = ", every class counting alike" if metric != VAL_ACCURACY else ""
        each = "; ".join(
            f"trial {member['trial']}, weight {member['weight']:.2f}, {percent(member['val_accuracy'])} alone"
            for member in ensemble["members"]
        )
        return (
            f"{right}.\n\nMembers and weights were chosen on validation images with the search's checkpoints, which "
            f"get {percent(ensemble['val_accuracy'])} of them right together{alike} ({each}). The members were then "
            f"trained on all training images of {found['data']} for {ensemble['epochs']} epochs, and the vote was "
            "scored once on the test images."
        )
    seeds = f"{len(refit['seeds'])} seeds" if len(refit["seeds"]) > 1 else "one seed"
    return (
        f"{headline(found)[0].upper()}{headline(found)[1:]} over {seeds}. This file is the first seed's: {right}.\n\n"
        "The configuration was chosen by validation images alone, then trained on all training images of "
        f"{found['data']} for {refit['epochs']} epochs, and scored once a seed on the test images. "
        f"{data_sentence(found)}"
    ).rstrip()


def _per_class(found: Document) -> list[str]:
    analysis, labels = found.get("analysis"), found["classes"]
    if not analysis:
        return []
    rows = [
        (label, *(percent(row[key], 1) for key in ("precision", "recall", "f1")))
        for label, row in zip(labels, analysis["per_class"], strict=True)
    ]
    confusion = analysis["confusion"]
    pairs = sorted(
        ((confusion[a][b], labels[a], labels[b]) for a in range(len(labels)) for b in range(len(labels)) if a != b),
        reverse=True,
    )
    said = [
        f"{count} of class {plain(label)} were taken for {plain(other)}"
        for count, label, other in pairs[:WORST_PAIRS]
        if count
    ]
    known = f"**Known confusions**: of the test images, {'; '.join(said)}." if said else "No test image was confused."
    return [table(("class", "precision", "recall", "F1"), rows), known]


def _files(written: Sequence[Written]) -> str:
    rows = [
        "| file | size | says what the Keras model says | an image alone | an image in a batch |",
        "|---|---|---|---|---|",
    ]
    for one in written:
        agreement = "not checked" if one.agreement is None else f"{percent(one.agreement)} of the checked images"
        alone, together = (
            "–" if seconds is None else f"{1000 * seconds:.2f} ms"
            for seconds in (one.seconds_alone, one.seconds_together)
        )
        rows.append(f"| `{one.path.name}` | {one.size / 1e6:.2f} MB | {agreement} | {alone} | {together} |")
    return "\n".join(rows) + "\n\nTimes are medians on the machine that wrote this card."


def _loading(found: Document, written: Sequence[Written]) -> list[str]:
    height, width, channels = found["input_shape"]
    shape = f"(n, {height}, {width}, {channels})"
    snippets = {one.format: LOADING[one.format].format(shape=shape) for one in written}
    if (own := found.get("own_layers")) and "keras" in snippets:
        module = own["file"].removesuffix(".py")
        load = 'load_model("model.keras"'
        with_its_own = snippets["keras"].replace(load, f"{load}, custom_objects=vars({module})")
        why = f"{own['file']}, in this folder, defines {', '.join(own['classes'])}"
        snippets["keras"] = f"import {module}  # {why}\n{with_its_own}"
    return [f"{TITLES[kind]}:\n\n```python\n{snippet}\n```" for kind, snippet in snippets.items()]


def _how(found: Document) -> str:
    made = f"`{found['command']}` with seed {found['seed']}; {versions_sentence(found)}."
    if found.get("ensemble"):
        return made
    values = "\n".join(f"- {name}: {value_text(value)}" for name, value in found["best_trial"]["values"].items())
    return f"{made}\n\n{values}"
