"""The regression gate: a rule, and its verdict on two reports."""
