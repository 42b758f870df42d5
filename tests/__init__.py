"""A package, so that `tests.support` is this one whatever an installed distribution calls its own tests."""
