"""One answer under way: events folded into a node, tools called between answers, figures kept. Knows no widget."""
