"""`tightverify train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tightverify.cli.command import AT_LEAST_ONE, FILE, Command, gathered, option, threads
from tightverify.cli.options import CLIP, IN_REGION, NORM, QUIET, WRITTEN
from tightverify.console import progress, say
from tightverify.errors import UsageError
from tightverify.methods import LINES, SENTENCES

if TYPE_CHECKING:
    from torch import nn

    from tightverify.training import Data, Plan, Training
    from tightverify.training.loop import Sized

TRAINED = "Training"
EXAMPLES = (
    "tightverify train net.py --data train.npz --eps 0.1 --clip 0 1",
    "tightverify train net.py --data train.npz --eps 0.1 --method crown-ibp",
    "tightverify train net.py --data wave.npz --db -50 --folder run --epochs 60",
)
SHARE = click.FloatRange(0, 1)
PAIR: dict[str, Any] = {"nargs": 2, "type": SHARE, "metavar": "FIRST LAST"}


def region_of(eps: float | None, db: float | None, norm: str, clip: tuple[float, float] | None) -> Sized:
    """The region of a share of the size that was given."""
    from tightverify.training.sizes import Balls, Decibels

    if (eps is None) == (db is None):
        raise UsageError("wanted one of --eps, --db: the size of the region that is trained for")
    if eps is not None:
        return Balls(eps, float(norm), clip)
    if norm != "inf":
        raise UsageError("--norm was given beside --db, and says nothing there; leave it out, or give --eps")
    assert db is not None
    return Decibels(db, clip)


def plan_of(method: str, warm: float, rise: float | None, epochs: int, **given: Any) -> Plan:
    """How to train; eps grows over half of the epochs if nothing else is said."""
    from tightverify.training import Plan, Schedule

    kappa, beta, eta = given.pop("kappa"), given.pop("beta"), given.pop("eta")
    schedule = Schedule(warm, epochs / 2 if rise is None else rise, kappa, beta, eta or None)
    return Plan(epochs, schedule, method, **given)


REGION = gathered(
    "region",
    region_of,
    option(IN_REGION, "--eps", type=click.FloatRange(0, min_open=True), help="Radius of the ball around each input."),
    option(IN_REGION, "--db", type=float, help="Decibel ball instead: changes of so many dB of the peak, such as -50."),
    NORM,
    CLIP,
)
PLAN = gathered(
    "plan",
    plan_of,
    option(
        TRAINED,
        "--method",
        type=click.Choice(["ibp", "crown-ibp", "lbp", "crown-lbp"]),
        default="ibp",
        show_default=True,
        help="Bounds that the loss is made of.",
    ),
    option(
        TRAINED,
        "--lines",
        type=click.Choice(list(LINES)),
        default="default",
        show_default=True,
        help="Which lines bound functions in crown-ibp, lbp and crown-lbp.",
    ),
    option(TRAINED, "--epochs", type=AT_LEAST_ONE, default=30, show_default=True, help="So many epochs at most."),
    option(TRAINED, "--warm", type=click.FloatRange(0), default=1.0, show_default=True, help="Epochs without a region, first."),
    option(TRAINED, "--rise", type=click.FloatRange(0), help="Epochs in which the region grows; half of all if not given."),
    option(TRAINED, "--kappa", default=(1.0, 0.5), show_default=True, help="Share of the ordinary loss.", **PAIR),
    option(TRAINED, "--beta", default=(1.0, 0.0), show_default=True, help="Share of crown's margins, not intervals'.", **PAIR),
    option(TRAINED, "--eta", default=None, help="Outer slopes of ParamRamp; as the module has them if not given.", **PAIR),
    option(
        TRAINED,
        "--recurrent-start",
        type=SHARE,
        default=1.0,
        show_default=True,
        help="Recurrent weights begin as so many times what they are; 0.3 for many frames.",
    ),
    option(TRAINED, "--rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Rate of Adam."),
    option(TRAINED, "--batch", type=AT_LEAST_ONE, default=128, show_default=True, help="Inputs a step."),
    option(TRAINED, "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights and of draws."),
    option(TRAINED, "--patience", type=AT_LEAST_ONE, help="Stop after so many epochs without a better certified accuracy."),
)


@click.command(cls=Command, examples=EXAMPLES, short_help="Train a network by what is certified of it.")
@click.argument("module", type=FILE, metavar="MODULE.py")
@option(TRAINED, "--data", type=FILE, required=True, metavar="DATA.npz", help="Inputs x (N, ...) and labels y (N,).")
@option(TRAINED, "--held", type=FILE, metavar="HELD.npz", help="What to measure on; part of --data if not given.")
@option(TRAINED, "--device", default="cpu", show_default=True, help="Device to train on.")
@REGION
@PLAN
@option(WRITTEN, "--folder", type=FILE, default=Path("trained"), show_default=True, help="Folder for state, log and network.")
@option(
    WRITTEN,
    "--verify",
    type=click.Choice(list(SENTENCES)),
    metavar="METHOD",
    default="linear",
    show_default=True,
    help="Method of the proof.",
)
@option(WRITTEN, "--count", type=click.IntRange(min=0), default=100, show_default=True, help="Inputs that the report verifies.")
@threads
@QUIET
def train(
    module: Path,
    data: Path,
    held: Path | None,
    device: str,
    region: Sized,
    plan: Plan,
    folder: Path,
    verify: str,
    count: int,
    quiet: bool,
) -> None:
    """Train a network of PyTorch so that much can be certified of it.

    MODULE.py defines a function `model()` that makes the network. Its state is kept in the folder after every epoch: the same
    command goes on where a run was ended, however that was. In the end `network.pt` holds the weights, `log.csv` the epochs,
    and what is certified is told by the verifier, which knows nothing of the bounds that it was trained by.
    """
    import torch

    from tightverify.api.checks import usable
    from tightverify.disk import alone_in
    from tightverify.training.loop import Training, replaced

    torch.manual_seed(plan.seed)
    network, where = made_by(module), usable(device)
    learned = data_of(data, held, network, where)
    with alone_in(folder=folder):
        run = Training(network.to(where), learned, region, plan, folder)
        follow(run, quiet)
        replaced(folder / "network.pt", network.state_dict())
        if count:
            verified(run, verify, count)


def made_by(path: Path) -> nn.Module:
    """The network that a file's `model` makes."""
    from importlib.util import module_from_spec, spec_from_file_location

    from torch import nn

    spec = spec_from_file_location("trained_module", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no file of Python; give one that defines model(), which makes the network")
    found = module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
        network = found.model()
    except Exception as error:
        raise UsageError(
            f"{path} makes no network ({type(error).__name__}: {error}); define model() in it, which does"
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"model() in {path} gives a {type(network).__name__}; wanted a torch.nn.Module")
    return network


def data_of(path: Path, held: Path | None, network: nn.Module, device: str) -> Data:
    """What is learned, and what is not: the last fifth of what was given, at most 1000, if there is no file of it."""
    import torch

    from tightverify.inputs.npz import read_inputs
    from tightverify.training import Data

    kind = next((p.dtype for p in network.parameters()), torch.float32)
    pairs = []
    for file in (path, held) if held else (path,):
        given, labels = read_inputs(file)
        if labels is None or len(given) != len(labels) or len(given) < 2 or labels.dtype.kind not in "iu":
            raise UsageError(f"{file} was given to learn from; wanted x (N, ...) and whole labels y (N,), two inputs or more")
        values = torch.from_numpy(given).to(device, kind)
        if not bool(torch.isfinite(values).all()):
            raise UsageError(f"x in {file} holds NaN or infinite numbers; leave those inputs out")
        pairs.append((values, torch.from_numpy(labels.astype("int64")).to(device)))
    (x, y), *rest = pairs
    if rest:
        return Data(x, y, *rest[0])
    cut = len(x) - min(1000, max(1, len(x) // 5))
    return Data(x[:cut], y[:cut], x[cut:], y[cut:])


def follow(run: Training, quiet: bool) -> None:
    """Train to the end, epoch by epoch."""
    if run.history and not quiet:
        say(f"goes on after epoch {len(run.history)}")
    with progress("epochs", run.plan.epochs, quiet, done=len(run.history)) as bar:
        for epoch in run.run():
            bar()
            bar.note(f"loss {epoch.loss:.3f}, right {epoch.accuracy:.1%}, certified {epoch.certified:.1%} at {epoch.size:.0%}")


def verified(run: Training, method: str, count: int) -> None:
    """What the verifier certifies of the inputs that were not learned."""
    from tightverify.api.certify import certify

    x, y = run.data.held_x[:count].cpu(), run.data.held_y[:count].cpu()
    click.echo(certify(run.module.cpu(), x, y, run.region(1.0), method=method).summary())
