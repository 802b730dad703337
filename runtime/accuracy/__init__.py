"""What the labels are worth: mIoU, boundary F, drift, flicker, mIoU at the deadline."""
