"""The networks that estimators share, and the loop that trains them."""
