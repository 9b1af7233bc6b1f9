"""targetcli nodes for restorable volumes."""
