"""Full screens and dialogs. They decide; widgets show and report."""
