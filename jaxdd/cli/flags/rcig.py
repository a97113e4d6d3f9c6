"""The flags of `distill` and `eval`: one typed field each, whose line in the class's docstring is its help text.

Those of the original RCIG scripts are all there, with their names, meanings and defaults; None in place of a default
means that the config file, or the distilled set, decides. `matching` has those of the matching methods.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jaxdd.cli.flags import kinds
from jaxdd.cli.flags.shared import Run


@dataclasses.dataclass(frozen=True)
class Distill(Run):
    """Distils a data set into a few synthetic images per class. Running the same command again resumes it.

    Arguments:
        dataset_name: Data set: digits, mnist, cifar10, ..., or your own as folder:DIR, npz:FILE or parquet:DIR.
        train_log: Accepted as in the original; has no effect here: log.txt and metrics.jsonl are always written.
        train_img: Accepted as in the original; has no effect here: pictures are written at checkpoint_iters.
        width: Channels of the networks' first block.
        n_images: Images per class.
        use_x64: Form and factorise the kernel matrix in float64.
        skip_tune: Keep the adam solver's two learning rates instead of tuning them first.
        naive_loss: Plain squared loss instead of kernel ridge regression (selects the adam solver).
        init_random_noise: Start from noise instead of real images.
        method: The method, e.g. rcig or frepo; an unknown name lists all of them.
        stream: SRe2L's family: read images of a folder as they are needed: auto (if they would fill memory), always or
            never.
    """

    dataset_name: kinds.ConfigText = None
    train_log: kinds.Text = None
    train_img: kinds.Text = None
    width: kinds.ConfigInt = None
    n_images: kinds.ConfigInt = None
    use_x64: kinds.ConfigSwitch = None
    skip_tune: kinds.ConfigSwitch = None
    naive_loss: kinds.ConfigSwitch = None
    init_random_noise: kinds.ConfigSwitch = None
    method: kinds.ConfigText = None
    stream: Annotated[str, kinds.shown("MODE", kinds.default)] = "auto"


@dataclasses.dataclass(frozen=True)
class Eval:
    """Trains fresh networks on a distilled set, and on as many real images, and measures them on the test set.

    Arguments:
        dataset_name: Data set that the set was distilled from; a set made here names it itself.
        data_path: Folder with local files in DIR/<dataset_name>/; otherwise TensorFlow Datasets' folder.
        zca_path: Folder where fitted ZCA transforms are kept; otherwise the user's cache folder.
        train_log: Accepted as in the original; has no effect here: log.txt is always written.
        train_img: Accepted as in the original; has no effect here.
        width: Channels of the networks' first block; 128 as published.
        depth: Blocks of the ConvNet; by resolution as published.
        normalization: identity, batch, instance, layer or group.
        eval_lr: Learning rate; of Adam 1e-4, of SGD (idc, dc) 0.01 as published.
        random_seed: Seed of the networks and of the baselines.
        message: A note for the log.
        output_dir: Folder of the result file; otherwise beside the checkpoint.
        max_cycles: Accepted as in the original, where it has no effect either.
        config_path: Config file: its evaluation recipe replaces the set's own.
        checkpoint_path: Output folder, distilled set, state of a run, or an original RCIG checkpoint file.
        save_name: Name of the result file, without .json.
        log_dir: Folder of log.txt; otherwise the folder of the result file.
        eval_arch: Architecture, such as conv, resnet, vgg or alexnet; several, with rows for each, as
            conv,resnet_idc,densenet.
        models_to_test: Networks trained per row, also --repeat; 5 as published (idc 3, dc 20).
        epochs: Epochs of training (idc, dc).
        same_compute: Divide the epochs by the number of images that one image decodes to (idc).
        dsa_strategy: Augmentation, e.g. color_crop_flip_scale_rotate, or none (idc, dc).
        mixup: cut: CutMix; vanilla: no mixing (idc).
        full_data: Also train on the whole data set, for comparison.
        baselines: Also train on as many random real images, and on as many chosen by k-means.
        set: Overrides a field of the recipe, e.g. steps=300 or test_aug=null.
        resolution: Side in pixels that images are resized to; otherwise the set's own.
        stream: Read a folder's images while they are needed: auto (if they would fill memory), always or never.
        devices: Number of devices; otherwise one.
        debug: Show the traceback of an error.
    """

    dataset_name: kinds.ConfigText = None
    data_path: kinds.Path = None
    zca_path: kinds.Path = None
    train_log: kinds.Text = None
    train_img: kinds.Text = None
    width: kinds.RecipeInt = None
    depth: kinds.RecipeInt = None
    normalization: kinds.RecipeText = None
    eval_lr: kinds.RecipeNumber = None
    random_seed: kinds.Int = 0
    message: kinds.Text = "eval_log"
    output_dir: kinds.Path = None
    max_cycles: kinds.Int = 1000
    config_path: kinds.Path = None
    checkpoint_path: kinds.Path = None
    save_name: Annotated[str, kinds.shown("NAME", kinds.default)] = "eval"
    log_dir: kinds.Path = None
    eval_arch: kinds.RecipeText = None
    models_to_test: kinds.RecipeInt = None

    epochs: kinds.RecipeInt = None
    same_compute: kinds.RecipeSwitch = None
    dsa_strategy: kinds.RecipeText = None
    mixup: kinds.RecipeText = None

    full_data: kinds.Switch = False
    baselines: kinds.Switch = True
    set: kinds.Assignments = ()
    resolution: kinds.OptionalInt = None
    stream: Annotated[str, kinds.shown("MODE", kinds.default)] = "auto"
    devices: kinds.OptionalInt = None
    debug: kinds.Switch = False
