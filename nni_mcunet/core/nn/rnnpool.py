"""Pool windows of a map by recurrent networks: RNNPool (Saha et al. 2020, section 3.1), as a torch module.

A first RNN sweeps every row of a window from left to right and every column from top to bottom; a second one, run in
both directions with the same weights, sums up the rows' last states, and the columns'. The four last states are the
output's channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FastGRNN(nn.Module):
    """FastGRNN cell (Kusupati et al. 2018) run over a sequence: one pair of matrices for gate and update.

    zeta and nu begin where the authors of RNNPool put them: their sigmoids are 1 and 0, an ungated 1 - z.
    """

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.w = nn.Parameter(0.1 * torch.randn(units, inputs))
        self.u = nn.Parameter(0.1 * torch.randn(units, units))
        self.bias_gate = nn.Parameter(torch.ones(units))
        self.bias_update = nn.Parameter(torch.ones(units))
        self.zeta = nn.Parameter(torch.tensor(100.0))
        self.nu = nn.Parameter(torch.tensor(-100.0))

    def forward(self, x: Tensor) -> Tensor:
        """Run over (time, batch, inputs); return the last state (batch, units)."""
        state = x.new_zeros(x.shape[1], self.u.shape[0])
        scale, shift = self.zeta.sigmoid(), self.nu.sigmoid()
        for step in F.linear(x, self.w):
            mixed = step + F.linear(state, self.u)
            gate = torch.sigmoid(mixed + self.bias_gate)
            state = gate * state + (scale * (1 - gate) + shift) * torch.tanh(mixed + self.bias_update)
        return state


class RNNPool(nn.Module):
    """(N, C, H, W) -> (N, 4 * h2, H', W') with windows k (vertical, horizontal) moved by s; the input comes padded."""

    def __init__(self, channels: int, h1: int, h2: int, k: tuple[int, int], s: tuple[int, int]):
        super().__init__()
        self.k, self.s = k, s
        self.rnn1, self.rnn2 = FastGRNN(channels, h1), FastGRNN(h1, h2)

    def forward(self, x: Tensor) -> Tensor:
        """Pool a padded (N, C, H, W)."""
        windows = x.unfold(2, self.k[0], self.s[0]).unfold(3, self.k[1], self.s[1])  # N C H' W' kh kw
        n, _, h, w = windows.shape[:4]
        rows = windows.permute(5, 4, 0, 2, 3, 1)  # time along the columns: kw kh N H' W' C
        parts = [state for sweep in (rows, rows.transpose(0, 1)) for state in self._sum_up(sweep)]
        return torch.cat(parts, 1).view(n, h, w, -1).permute(0, 3, 1, 2)

    def _sum_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run over (steps, lines, N, H', W', C); return the last states over the lines forth and back, (N * H' * W',
        h2)."""
        steps, lines, channels = x.shape[0], x.shape[1], x.shape[-1]
        states = self.rnn1(x.reshape(steps, -1, channels)).view(lines, -1, self.rnn1.u.shape[0])
        return self.rnn2(states), self.rnn2(states.flip(0))
