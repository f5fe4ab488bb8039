"""All that measuring reads of torch by a private name, by subject, since any release may rename it.

``tests/backends/torch_api`` checks each name against the installed release, and that no other module has one.
"""
