"""ruhi: three convolutions with growing dropout, scored on a tenth of all 70,000 images merged and split anew.

Its test images are not the official ones, and its validation figure is of one batch of 128. Here it trains on
54,000 of the official training images, as many as there, and is scored on the official test set.
"""

from tuner.data.splits import Cut
from tuner.models.baselines.baseline import Baseline, conv, conv_pool, flat_head
from tuner.models.plan import Dropout

CODE = Baseline(
    "ruhi",
    (
        *conv_pool(32, "valid", "he_uniform"),
        Dropout(0.2),
        *conv_pool(64, "valid"),
        Dropout(0.2),
        *conv(128, "valid"),
        Dropout(0.5),
        *flat_head(128),
    ),
    epochs=10,
    batch_size=128,
    cut=Cut(share=0.1),
    note="70,000 images merged and split anew: not the official test set",
    test_accuracy=0.9133,
    nearest={
        "blocks": 3,
        "filters_1": 32,
        "filters_2": 64,
        "filters_3": 128,
        "norm": "none",
        "padding": "valid",
        "dropout_conv": 0.2,
        "dense_units": 128,
        "dropout_dense": 0.0,
        "batch_size": 128,
    },
)
