"""What a migration can be told: one table of options, and what is made from its rows.

``option_table`` has the rows, ``row`` says what one is, ``value_kinds`` how a value is written, ``reading`` turns what
people write into values and back. A new option is one row. What two QEMUs make of the options that are asked for is
decided in ``limosa.migration.choice``.
"""

from limosa.spec.migration_options.option_table import OPTIONS
from limosa.spec.migration_options.reading import merged, named, read, shown, value
from limosa.spec.migration_options.row import Exclusion, Option, Side
from limosa.spec.migration_options.value_kinds import Value

__all__ = ["OPTIONS", "Exclusion", "Option", "Side", "Value", "merged", "named", "read", "shown", "value"]
