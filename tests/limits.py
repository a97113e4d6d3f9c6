"""How long a test may hang."""

from __future__ import annotations

TIMEOUT = 30 * 60  # seconds. No test needs a tenth of it on any machine: it only ends what would never end
