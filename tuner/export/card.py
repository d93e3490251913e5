"""The model card: what the exported file is, how good, and how to load it. Hugging Face's fields."""

from __future__ import annotations

from tuner.reporting.report import Document
from tuner.reporting.sentences import headline


def model_card(report: Document) -> str:
    """Return ``model_card.md`` for the retrained winner of ``report``."""
    best, refit, labels, data = report["best_trial"], report["refit"], report["classes"], report["data"]
    low, high = (100 * bound for bound in refit["interval_95"])
    height, width, channels = report["input_shape"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"""---
library_name: keras
pipeline_tag: image-classification
tags: [tuner, {data}]
datasets: [{data}]
metrics: [accuracy]
---

# {report["study"]}, trial {best["number"]}

A convolutional network for {height}x{width}x{channels} images, found by `tuner`: {headline(report)} over
{len(refit["seeds"])} seed(s); this file is the first seed's, with {100 * refit["test_accuracies"][0]:.2f} % of
{refit["n_test"]:,} test images right (95 % interval {low:.2f} to {high:.2f} %).

- **Input**: raw pixels, uint8 0-255, shape (batch, {height}, {width}, {channels}). Scaling is part of the model.
- **Output**: probabilities, float32, shape (batch, {len(labels)}); the classes in order: {", ".join(labels)}.
- **Size**: {best["parameters"]:,} parameters, {best["multiply_adds"]:,} multiply-adds an image.
- **Data**: {data}; all training images, {refit["epochs"]} epochs. The search chose by validation images alone, and the
  test images were scored once per seed, after the last training.

## Load it

```python
import json, keras
model = keras.saving.load_model("model.keras")
labels = json.load(open("labels.json"))
probabilities = model.predict(images)  # images: uint8 (n, {height}, {width}, {channels})
print([labels[k] for k in probabilities.argmax(axis=1)])
```

## How it was made

`{report["command"]}` with seed {report["seed"]}; {versions}.

{chr(10).join(f"- {name}: {value}" for name, value in best["values"].items())}
"""
