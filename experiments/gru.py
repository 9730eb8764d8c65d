"""GRU's update n + sigmoid(a) (h - n): three ways to hold it, and which of them is the tightest.

    python -m experiments.gru [--boxes 2000]

`closed` is the closed form of one function of three operands, `fitted` the tightest planes of that function, `products` the
sum of the tightest planes of the two products sigmoid(-a) n and sigmoid(a) h, as other verifiers relax it. The volume
between two planes over a box is the box's size times their distance at its centre; printed are means of ratios of volumes,
and how often each is the least, to a thousandth.
"""

from __future__ import annotations

import click
import torch
from rich.table import Table
from torch import Tensor

from experiments.pages import Experiment, report
from tightverify.ops import GruUpdate
from tightverify.relax.fitted.gru_update import fitted_update, two_products
from tightverify.values import Interval

WIDTHS = ((1.0, 0.5, 0.5), (0.2, 0.1, 0.1), (3.0, 1.0, 1.0), (1.0, 0.05, 0.5), (6.0, 0.5, 0.5), (0.1, 1.0, 1.0))


def boxes_of(widths: tuple[float, float, float], count: int) -> Tensor:
    """(N, 6): mean widths of a, n and h; centres as in networks."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn((count, 3), generator=generator, dtype=torch.float64) * torch.tensor([2.0, 0.8, 0.8])
    half = torch.rand((count, 3), generator=generator, dtype=torch.float64) * torch.tensor(widths)
    return torch.stack([centres - half, centres + half], dim=2).view(count, 6)


def volumes(boxes: Tensor) -> dict[str, Tensor]:
    """The distances of the two planes at the centre, by kind."""
    centre = (boxes[:, 0::2] + boxes[:, 1::2]) / 2
    operands = [Interval(boxes[:, k], boxes[:, k + 1]) for k in (0, 2, 4)]
    closed = GruUpdate().relax(*operands)
    point = centre.unbind(1)
    found = {"closed": closed.upper.at(*point) - closed.lower.at(*point)}
    ahead = torch.cat([centre, torch.ones_like(centre[:, :1])], dim=1)
    fitted = fitted_update(boxes, centre[:, None], "batched", 1e-4)
    for name, sides in (("fitted", fitted), ("products", two_products(boxes, "batched", 1e-4))):
        found[name] = ((sides.upper - sides.lower)[:, 0] * ahead).sum(1)
    return found


@click.command(cls=Experiment)
@click.option("--boxes", "count", default=2000, show_default=True)
def main(count: int) -> None:
    table = Table(title=f"{count} boxes for each row; widths are means")
    ratios = ("fitted / closed", "fitted / products", "closed / products")
    for name in ("widths of a, n, h", *ratios, "least: closed", "fitted", "products"):
        table.add_column(name)
    for widths in WIDTHS:
        found = volumes(boxes_of(widths, count))
        least = torch.stack(list(found.values())).amin(0)
        row = [float((found[one] / found[other]).mean()) for one, other in (ratio.split(" / ") for ratio in ratios)]
        often = [float((found[name] <= 1.001 * least).double().mean()) for name in ("closed", "fitted", "products")]
        table.add_row(", ".join(map(str, widths)), *(f"{v:.3f}" for v in row), *(f"{v:.0%}" for v in often))
    report(table)


if __name__ == "__main__":
    main()
