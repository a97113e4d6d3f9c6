"""F3: how good a distilled set is: networks trained on it from scratch, beside baselines."""
