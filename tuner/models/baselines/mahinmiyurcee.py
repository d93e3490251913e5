"""mahinmiyurcee: the plain tutorial network, without norm or dropout; its README and code agree."""

from tuner.data.splits import Cut
from tuner.models.baselines.baseline import Baseline, conv, conv_pool, flat_head

CODE = Baseline(
    "mahinmiyurcee",
    (*conv_pool(32, "valid"), *conv_pool(64, "valid"), *conv(64, "valid"), *flat_head(64)),
    epochs=10,
    batch_size=32,
    cut=Cut(share=0.2, last=True),
    note="10 epochs",
    test_accuracy=0.9041,
    nearest={
        "blocks": 3,
        "filters_1": 32,
        "filters_2": 64,
        "filters_3": 64,
        "norm": "none",
        "padding": "valid",
        "dense_units": 64,
        "dropout_conv": 0.0,
        "dropout_dense": 0.0,
        "batch_size": 32,
    },
)
