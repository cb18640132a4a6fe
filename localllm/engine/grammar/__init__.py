"""Constraints on an answer's form: checked, compiled by llguidance, followed token by token.

Owns everything between `api.Constraint` and the set of tokens that may come next. Imported by the engine child only,
and only when a request brings a constraint. What cannot be enforced is refused by name, before native code sees it.
"""
