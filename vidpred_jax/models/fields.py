"""Rules for the fields of networks: their errors name the field, its value and the rule."""


def require(module, **rules: tuple[object, str]) -> None:
    """Raises ValueError for the first field whose rule does not hold.

    rules: for each field, whether its rule holds and the text of the rule.
    """
    for field, (holds, rule) in rules.items():
        if not holds:
            raise ValueError(f"model.{field} ({getattr(module, field)!r}) {rule}")
