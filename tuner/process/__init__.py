"""Child processes: workers that may hang or crash, what limits them, and what cleans up behind them."""
