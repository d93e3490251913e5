"""chaerim: "92 %", stated without a recorded run; README and code describe two networks."""

from tuner.data.splits import Cut
from tuner.models.baselines.baseline import Baseline, conv_pool, flat_head
from tuner.models.plan import Dropout

_CUT = Cut(share=0.2)

README = Baseline(
    "chaerim",
    # "128 filters 3x3, dense 128, learning rate .001, 20 epochs, each layer followed by pooling and dropout": as many
    # convolutions as the code has, with its dropout rates, padding, optimizer and batch.
    (*conv_pool(128, "same"), Dropout(0.25), *conv_pool(128, "same"), Dropout(0.25), *flat_head(128, 0.3)),
    epochs=20,
    batch_size=128,
    cut=_CUT,
    note="the README's settings; its 92 % is stated without a recorded run",
    optimizer="rmsprop",
    seeds=1,
    nearest={
        "blocks": 2,
        "filters_1": 128,
        "filters_2": 128,
        "norm": "none",
        "dense_units": 128,
        "dropout_conv": 0.25,
        "dropout_dense": 0.3,
        "optimizer": "rmsprop",
        "batch_size": 128,
    },
)

CODE = Baseline(
    "chaerim-code",
    (*conv_pool(32, "same"), Dropout(0.25), *conv_pool(64, "same"), Dropout(0.25), *flat_head(256, 0.3)),
    epochs=15,
    batch_size=128,
    cut=_CUT,
    note="stated without a recorded run",
    optimizer="rmsprop",
    test_accuracy=0.92,
    nearest={
        "blocks": 2,
        "filters_1": 32,
        "filters_2": 64,
        "norm": "none",
        "dense_units": 256,
        "dropout_conv": 0.25,
        "dropout_dense": 0.3,
        "optimizer": "rmsprop",
        "batch_size": 128,
    },
)
