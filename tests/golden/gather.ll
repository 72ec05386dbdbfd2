define internal void @gather.tiles(ptr noalias readonly %in0, ptr noalias readonly %in1, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  br label %body0
body0:
  %r0 = phi i64 [ 0, %entry ], [ %next0, %latch0 ]
  %v1 = mul i64 %r0, 4
  %v2 = getelementptr i32, ptr %in1, i64 %v1
  %v3 = load <4 x i32>, ptr %v2, align 4
  %v4 = sext <4 x i32> %v3 to <4 x i64>
  %v5 = extractelement <4 x i64> %v4, i64 0
  %v6 = icmp slt <4 x i64> <i64 -1, i64 -1, i64 -1, i64 -1>, %v4
  %v7 = icmp slt <4 x i64> %v4, <i64 9, i64 9, i64 9, i64 9>
  %v8 = and <4 x i1> %v6, %v7
  %v9 = extractelement <4 x i1> %v8, i64 0
  %v10 = select i1 %v9, i64 %v5, i64 0
  %v11 = getelementptr i8, ptr %in0, i64 %v10
  %v12 = load i8, ptr %v11, align 1
  %v13 = select i1 %v9, i8 %v12, i8 0
  %v14 = extractelement <4 x i64> %v4, i64 1
  %v15 = extractelement <4 x i1> %v8, i64 1
  %v16 = select i1 %v15, i64 %v14, i64 0
  %v17 = getelementptr i8, ptr %in0, i64 %v16
  %v18 = load i8, ptr %v17, align 1
  %v19 = select i1 %v15, i8 %v18, i8 0
  %v20 = extractelement <4 x i64> %v4, i64 2
  %v21 = extractelement <4 x i1> %v8, i64 2
  %v22 = select i1 %v21, i64 %v20, i64 0
  %v23 = getelementptr i8, ptr %in0, i64 %v22
  %v24 = load i8, ptr %v23, align 1
  %v25 = select i1 %v21, i8 %v24, i8 0
  %v26 = extractelement <4 x i64> %v4, i64 3
  %v27 = extractelement <4 x i1> %v8, i64 3
  %v28 = select i1 %v27, i64 %v26, i64 0
  %v29 = getelementptr i8, ptr %in0, i64 %v28
  %v30 = load i8, ptr %v29, align 1
  %v31 = select i1 %v27, i8 %v30, i8 0
  %v32 = insertelement <4 x i8> poison, i8 %v13, i64 0
  %v33 = insertelement <4 x i8> %v32, i8 %v19, i64 1
  %v34 = insertelement <4 x i8> %v33, i8 %v25, i64 2
  %v35 = insertelement <4 x i8> %v34, i8 %v31, i64 3
  %v36 = getelementptr i8, ptr %out, i64 %v1
  store <4 x i8> %v35, ptr %v36, align 1
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v37 = icmp slt i64 %next0, 4
  br i1 %v37, label %body0, label %exit0
exit0:
  ret void
}
define void @gather(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %b1 = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %buffers, i64 2
  %b2 = load ptr, ptr %p2
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @gather.tiles(ptr %b1, ptr %b2, ptr %b0, i64 %first, i64 %last)
  ret void
}
